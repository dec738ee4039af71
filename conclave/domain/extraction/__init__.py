"""What a path answers: `EXTRACTORS`, a function a kind of form. None is a result: the text gives no answer.

An extractor reads any text in time linear in its length, and never fails. `is_cut` says that the text ends where its tokens
ran out; then only an answer that is certainly whole counts.
"""

from collections.abc import Callable, Sequence

from conclave.domain.extraction.final_answer import final_answer
from conclave.domain.extraction.patterns import Pattern
from conclave.domain.extraction.replies import answer_line, percentage, short_reply, verdict, whole_text

Extractor = Callable[[str, bool], str | None]

EXTRACTORS: dict[str, Extractor] = {
    "final_answer": final_answer,  # of free text: what it commits to last, however it announces it
    "short_reply": short_reply,  # of a form that asks for nothing else: as final_answer, or all of a reply of one line
    "answer_line": answer_line,  # of a model that was trained to end with "Answer: <a number>"
    "verdict": verdict,  # of a critic: `right`, or `Step <number> is wrong: …`
    "percentage": percentage,  # how sure, from 0 to 100
    "whole_text": whole_text,  # all that is said, as it is: a plan, a line of thought
}


def by_patterns(patterns: Sequence[str]) -> Extractor:
    """An extractor for a format of one's own: the last match of the first pattern that matches. Raises: BadPattern."""
    compiled = [Pattern(pattern) for pattern in patterns]

    def extract(text: str, is_cut: bool) -> str | None:
        data = text.encode("utf-8", "replace")
        for pattern in compiled:
            if (found := pattern.last(data)) is not None:
                answer, end = found
                return None if is_cut and b"\n" not in data[end:] else answer.strip() or None
        return None

    return extract
