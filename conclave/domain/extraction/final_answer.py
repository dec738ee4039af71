"""The last final answer that a text commits to.

    1. what is only thought is left out                     conclave.domain.extraction.thoughts
    2. what follows a question that nobody asked is left out
    3. from the end backwards, the first place that announces an answer and gives one
       a labelled line, a label behind a sentence, a heading, a sentence that says it, ####, \\boxed{}, <answer>, "answer": …
A box that is not closed withdraws what was said before it. Of a text that was cut at the token limit only what is
certainly whole counts: a closed box, tag or string, a line or sentence with something behind it.
"""

import re
from collections.abc import Callable

from conclave.domain.extraction import labels, places
from conclave.domain.extraction.patterns import First, Last
from conclave.domain.extraction.places import WINDOW, WITHDRAWN, Place, Said, braced
from conclave.domain.extraction.thoughts import spoken
from conclave.domain.extraction.tidying import has_letter_or_initial, is_choice, is_mathematical, tidied

_MAX_PLACES = 16
_MAX_SECTIONS = 8

_STRONG = "|".join(
    [labels.LINE_LABEL, labels.MID_LABEL, labels.HASHES, labels.TAG, labels.BOX, labels.SENTENCE, labels.REPLY]
)
_FIRST_STRONG = First(_STRONG)
_NEXT_QUESTION = First(f"{labels.NEXT_QUESTION}|{labels.NUMBERED_QUESTION}")
_NEXT_UNNUMBERED = First(labels.NEXT_QUESTION)
_NUMBERED = First(labels.NUMBERED_QUESTION)
_PLACES = Last(f"{_STRONG}|{labels.HEADING}|{labels.FIELD}|{labels.CHOSEN}|{labels.VERB_LAST}")
_KINDS = {
    "box": Last(labels.BOX),
    "tag": Last(labels.TAG),
    "field": Last(labels.FIELD),
    "hashes": Last(labels.HASHES),
    "label": Last(f"{labels.LINE_LABEL}|{labels.MID_LABEL}"),
    "heading": Last(labels.HEADING),
    "reply": Last(labels.REPLY),
    "verb_last": Last(labels.VERB_LAST),
    "sentence": Last(labels.SENTENCE),
    "chosen": Last(labels.CHOSEN),
}

_PLAIN = frozenset({"sentence", "verb_last", "chosen"})  # count only if nothing else does, unless they are exact
_SENTENCES = frozenset({"sentence", "verb_last"})
_REFUSABLE = frozenset({"sentence", "label", "heading"})
_TAG_END = re.compile(r"(</?)(?:final[_ ]?)?answer>", re.I)


def final_answer(text: str, is_cut: bool) -> str | None:
    """The last final answer that the text commits to; None when there is none."""
    return answer_said(spoken(text), is_cut)


def answer_said(data: bytes, is_cut: bool) -> str | None:
    """The same of what is said, without thoughts, as `spoken` gives it."""
    for _ in range(_MAX_SECTIONS):
        end = _end_of_section(data)
        said = _last_said(data[:end], is_cut and end == len(data))
        if said is not None:
            return said.answer or None
        data = data[end:]
        if not data:
            break
    return None


def _end_of_section(data: bytes) -> int:
    """Where a question begins that follows an answer. Numbered questions from the start on are the text's own parts."""
    answered = _FIRST_STRONG.span(data)
    if answered is None:
        return len(data)
    has_parts = _NUMBERED.span(data, 0, answered[0] + 1) is not None
    question = (_NEXT_UNNUMBERED if has_parts else _NEXT_QUESTION).span(data, answered[1])
    return len(data) if question is None else max(1, question[0])


def _last_said(data: bytes, is_cut: bool) -> Said | None:
    """What the last place says that says something; None when none does. What is not whole in a cut text withdraws all."""
    end = len(data)
    plain: Said | None = None
    for _ in range(_MAX_PLACES):
        end = _PLACES.end(data, end)
        if end < 0:
            break
        place = _place(data, end)
        said = _READERS[place.kind](data, place)
        end -= 1
        if said is WITHDRAWN or (is_cut and said.answer and not said.is_whole):
            return WITHDRAWN
        if said.answer is None or (place.kind in _REFUSABLE and places.is_refused(data, place)):
            continue
        if place.kind not in _PLAIN or (place.kind in _SENTENCES and _is_exact(said.answer)):
            return said
        plain = plain or said
    return plain


def _is_exact(answer: str) -> bool:
    return is_mathematical(answer) or is_choice(answer) or has_letter_or_initial(answer)


def _place(data: bytes, end: int) -> Place:
    kind = next((kind for kind, pattern in _KINDS.items() if pattern.ends_at(data, end)), "sentence")
    rest = data[end : end + WINDOW].decode("utf-8", "ignore")
    if kind != "tag" and (tag := _TAG_END.search(rest)):
        rest = rest[: tag.start()] + "\n"  # what follows is not part of it
    inner = braced(rest) if kind != "box" else None
    if inner is not None and "\n" not in inner and re.search(r"[^\W_]", inner):
        rest = inner + "\n"  # nor what follows the box or command that the place is in
    return Place(kind, end, rest)


def _tagged(data: bytes, place: Place) -> Said:
    end = _TAG_END.search(place.rest)  # or where another one opens
    is_closed = end is not None and end[1] == "</"
    content = place.rest[: end.start()] if end else place.rest
    inner = _last_said(b"\n" + content.encode(), is_cut=False)
    if inner is not None and inner.answer:
        return Said(inner.answer, is_closed)
    lines = [line for line in content.splitlines() if line.strip()]
    return Said(tidied(" ".join(lines)) if len(lines) <= 4 else None, is_closed)


_READERS: dict[str, Callable[[bytes, Place], Said]] = {
    "box": places.boxed,
    "tag": _tagged,
    "field": places.field_value,
    "label": places.on_line,
    "heading": places.below,
    "hashes": places.hashed,
    "reply": places.replied,
    "sentence": places.in_sentence,
    "verb_last": places.before_verb,
    "chosen": places.chosen,
}
