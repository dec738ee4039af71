"""Extractors for forms that ask for one thing: a short reply, a line, a verdict, a percentage, a text."""

import re

from conclave.domain.extraction.final_answer import answer_said
from conclave.domain.extraction.patterns import Last
from conclave.domain.extraction.thoughts import spoken
from conclave.domain.extraction.tidying import tidied

_MAX_REPLY_CHARS = 200
_MAX_ANSWER_CHARS = 4_096
_METADATA = re.compile(
    r"^[\W_]*(?:confidence|certainty|explanation|reasoning|reason|note|probability|source)\b[\W_]*:", re.I
)

_ANSWER_MARK = b"answer:"
_NUMBER = re.compile(r"[-+]?[0-9][0-9,]*(?:\.[0-9]+)?")
_VERDICT = Last(r"\n[^\pL\pN\n]*(?:right|step [0-9]+ is wrong: [^\n]*|step [0-9]+ is wrong:?)[^\pL\pN\n]*")
_HAS_NUMBER = Last(r"[0-9](?:[ \t]*(?:%|percent|/[ \t]*100|out of 100))?")
_PERCENTAGE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:%|percent|/\s*100\b|out of 100)?", re.I)


def short_reply(text: str, is_cut: bool) -> str | None:
    """What final_answer finds; else all of a reply that is one line long, without lines on its confidence and reasons."""
    data = spoken(text)
    answer = answer_said(data, is_cut)
    if answer is not None or is_cut or len(data) > 8 * _MAX_ANSWER_CHARS:
        return answer
    said = data.decode().strip()
    lines = [line for line in said.splitlines() if line.strip() and not _METADATA.match(line)]
    if len(lines) != 1 or len(lines[0]) > _MAX_REPLY_CHARS or "\\boxed" in lines[0]:
        return None
    return tidied(lines[0])


def answer_line(text: str, is_cut: bool) -> str | None:
    """The number behind the last `Answer:`, if the rest of its line is one number; never a part of it."""
    data = spoken(text)
    start = _behind_last_mark(data)
    end = data.find(b"\n", start) if start >= 0 else -1
    if start < 0 or (is_cut and end < 0):
        return None
    line = data[start : len(data) if end < 0 else end]
    if len(line) > _MAX_ANSWER_CHARS:
        return None
    value = line.decode("utf-8", "ignore").strip().rstrip(".")
    return value if _NUMBER.fullmatch(value) else None


def _behind_last_mark(data: bytes) -> int:
    """Where what stands behind the last `Answer:` begins, of a word of its own and in whatever case; -1 without any.

    Read with each path of the model that ships, so without a pattern: bytes are searched eight times as fast.
    """
    small = data.lower()
    place = small.rfind(_ANSWER_MARK)
    while place > 0 and (small[place - 1 : place].isalnum() or small[place - 1 : place] == b"_"):
        place = small.rfind(_ANSWER_MARK, 0, place)
    return place if place < 0 else place + len(_ANSWER_MARK)


def verdict(text: str, is_cut: bool) -> str | None:
    """The last line that says `right` or `Step <number> is wrong: …`."""
    data = spoken(text)
    end = _VERDICT.end(data, len(data))
    if end < 0 or (is_cut and b"\n" not in data[end:]):
        return None
    start = data.rfind(b"\n", 0, end)
    line = data[start:end].decode("utf-8", "ignore")[:_MAX_ANSWER_CHARS]
    return re.sub(r"^[\W_]+|[\W_]+$", "", line) or None


def percentage(text: str, is_cut: bool) -> str | None:
    """The last number from 0 to 100, of "85 out of 100" the first; a share such as 0.85 as 85."""
    data = spoken(text)
    end = _HAS_NUMBER.end(data, len(data))
    if end < 0 or (is_cut and end == len(data)):
        return None
    found = _PERCENTAGE.findall(data[max(0, end - 64) : end].decode("utf-8", "ignore"))
    value = float(found[-1])
    if 0 < value < 1:
        value *= 100
    return f"{value:.6g}" if 0 <= value <= 100 else None


def whole_text(text: str, is_cut: bool) -> str | None:
    """All that is said outside of thoughts."""
    said = spoken(text).decode("utf-8", "replace").strip()
    return said if said and not is_cut and len(said) <= _MAX_ANSWER_CHARS else None
