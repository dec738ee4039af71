"""The places of a text that announce an answer, and what each says: `Place`, `Said`, a function a kind.

Each reads a window behind its place, a few thousand characters, whatever the length of the text.
"""

import re
from dataclasses import dataclass
from itertools import accumulate, repeat
from typing import NamedTuple

from conclave.domain.extraction import labels
from conclave.domain.extraction.patterns import Last
from conclave.domain.extraction.tidying import (
    first_sentence,
    is_choice,
    is_mathematical,
    is_placeholder,
    tidied,
    without_tags,
)

WINDOW = 16_500  # bytes: an answer of 4,096 characters, of up to four bytes each
_MAX_BOXES = 16
_MAX_BOX_CHARS = 4_200  # a little more than an answer may have
_MAX_SENTENCE_CHARS = 1_000
_MAX_SENTENCE_WORDS = 24

_BOX_OPENING = re.compile(rb"\\(?:boxed|fbox|framebox)[ \t]*(?:\{|[0-9])")
_DEPTHS = {"{": 1, "}": -1}
_BOX_COMMANDS = (b"\\boxed", b"\\fbox", b"\\framebox")
_BETWEEN_BOXES = re.compile(
    r"(?:[\s$,;&.]|\\[,;:! ]|\\q?quad|\\\(|\\\)|\\text\s?\{[^{}]{0,12}\}|and|or|und|oder|et|ou|y|o|e|и|или|和|或"
    r"|[a-zA-Z](?:_\{?\w\}?)?\s?=)*"
)
_CLAUSE_END = re.compile(r",? (?:because|since|which|so|as|but|and so|not)\b|[;,] ")
_BLOCKS = (("$$", "$$"), ("\\[", "\\]"), ("```", "```"), ("\\(", "\\)"))
_NO_PLAIN_VALUE = re.compile(
    r"^(?:not|no longer|wrong|incorrect|correct|right|unknown|unclear|in|given|that|based|the same|likely|to|what|where|when|how|"
    r"if|whether|by|on|at|from|of|for|with|indeed|we|i|you|it|this|there|obvious|easy|simple|found|obtained|still|always|never|just|"
    r"independent|different|close|between|going|also)\b", re.I
)  # fmt: skip
_ENVIRONMENT = re.compile(r"\\begin\{(?:align|equation|gather|aligned)\*?\}([^{}]{1,400})\\end\{")
# Of values in an object. A number may have its thousands set apart, though JSON has no such thing.
_CODE_POINTS = re.compile(r"(?<!\\)(?:\\u[0-9a-fA-F]{4})+")
_IN_VALUE = re.compile(r'"(?:[^"\\\n]|\\.)*"|[\[\]{}]')
_BARE_VALUE = re.compile(r"\d{1,3}(?:,\d{3})+(?=\s*[,}\n])|[^,}\n]*")
_ANYTHING = re.compile(r"\w|[<>\[\](){}∞∅∪∩√+=≤≥≠×÷&%]")
_REFUSED = re.compile(
    r"\b(?:no|not (?:the|an?|my)|wrong|incorrect|mistaken|naive|tempting|previous|earlier|original)"
    r"(?: (?:final|correct|right|clear|exact|possible|one))? answers?\b[^\w\n]*(?:(?:is|was|are|were)\b\W*)?$", re.I
)  # fmt: skip
_REFUSED_WITHIN = 80
_NOUN_IN_FRONT = Last(labels.NOUN_IN_FRONT)
_VERB = re.compile(rf"(?:\s+|['’]){labels.LAST_VERB}$")
_WORD_GOES_ON = re.compile(r"[^\W\d_]|[\u0900-\u0963\u0970-\u0dff]")
_VERB_LAST_WITHIN = 400  # bytes
_AFTERTHOUGHT = re.compile(r"^[\W_]*(?:confidence|explanation|note|reason|check|verification|---|___|\*\*\*)", re.I)


class Said(NamedTuple):
    """An answer, and whether more of the text would leave it as it is. `answer` None: nothing is said here."""

    answer: str | None
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where an answer is announced: its kind, and the text behind the announcement."""

    kind: str
    start: int
    rest: str


WITHDRAWN = Said("")


def boxed(data: bytes, place: Place) -> Said:
    """What the box holds, with those right before it: "x = [2] or x = [5]" says 2, 5."""
    if data[place.start - 1 : place.start].isdigit():
        digits = re.match(r"\d*", place.rest)
        assert digits is not None
        return Said(chr(data[place.start - 1]) + digits[0], is_whole=len(digits[0]) < len(place.rest))
    content = braced(place.rest)
    if content is None:
        return WITHDRAWN
    answers = [tidied(content)]
    if answers == [None]:
        return Said(None)
    start = _box_before(data, place.start)
    for _ in range(_MAX_BOXES):
        previous = _box_before(data, start)
        opening = _BOX_OPENING.match(data, previous) if previous >= 0 else None
        if opening is None:
            break
        inner = data[opening.end() : start].decode("utf-8", "ignore")
        earlier = braced(inner)
        if earlier is None or not _are_joined(inner[len(earlier) + 1 :]):
            break
        answers.append(tidied(earlier))
        start = previous
    said = [answer for answer in reversed(answers) if answer]
    return Said(", ".join(dict.fromkeys(said)) or None, is_whole=True)


def _box_before(data: bytes, end: int) -> int:
    """Where the last box that is opened within a window before `end` begins; -1 when there is none."""
    start = max(0, end - WINDOW // 2)
    return max(data.rfind(command, start, end) for command in _BOX_COMMANDS)


def _are_joined(between: str) -> bool:
    """True when two boxes with that between them are one answer."""
    return len(between) <= 60 and _BETWEEN_BOXES.fullmatch(between) is not None


def braced(text: str) -> str | None:
    """The text up to the brace that closes it; None when none does within the length of an answer."""
    plain = text[:_MAX_BOX_CHARS].replace("\\\\", "  ").replace("\\{", "  ").replace("\\}", "  ")
    depths = list(accumulate(map(_DEPTHS.get, plain, repeat(0))))
    return text[: depths.index(-1)] if -1 in depths else None


def field_value(data: bytes, place: Place) -> Said:
    """The value of "answer" in an object: a string, a list or an object, or what stands before the next comma or brace."""
    if string := re.match(r'"((?:[^"\\\n]|\\.)*)"', place.rest):
        value = _CODE_POINTS.sub(_characters, string[1])
        return Said(tidied(value.replace('\\"', '"').replace("\\\\", "\\")), is_whole=True)
    if place.rest[:1] in ("[", "{"):
        value = place.rest[: _end_of_value(place.rest)]
        return Said(tidied(value), is_whole=True) if value else WITHDRAWN
    bare = _BARE_VALUE.match(place.rest)
    assert bare is not None
    said = bare[0].strip("'\" ")
    return Said(None if said in ("null", "None") else tidied(said), is_whole=len(bare[0]) < len(place.rest))


def _characters(match: "re.Match[str]") -> str:
    """The characters that code points stand for; as it is written what is none, or controls something."""
    units = bytes.fromhex(match[0].replace("\\u", ""))
    said = units.decode("utf-16-be", "replace")
    return said if said.isprintable() and "\ufffd" not in said else match[0]


def _end_of_value(text: str) -> int:
    """Where the list or object ends with which the text begins; 0 where it does not within the length of an answer."""
    depth = 0
    for match in _IN_VALUE.finditer(text[:_MAX_BOX_CHARS]):
        depth += (match[0] in ("[", "{")) - (match[0] in ("]", "}"))
        if depth == 0:
            return match.end()
    return 0


def on_line(data: bytes, place: Place) -> Said:
    """The rest of the line, or, when it says nothing, what the next lines show."""
    line, break_, after = place.rest.partition("\n")
    if _opens_block(line):
        return _shown_below(place) if break_ else Said(None)
    if not _ANYTHING.search(without_tags(line).replace("_", "")):
        below = Place(place.kind, place.start, after)
        return _shown_below(below) if break_ and not re.search(r"_{3}|\.{3}|…", line) else Said(None)
    return _of_line(line, bool(break_))


def _of_line(line: str, has_break: bool) -> Said:
    answer = tidied(line)
    if answer is None:
        return Said(None)
    bare = line.strip()
    is_closed = (
        has_break or first_sentence(bare.strip("*_ "))[1] or bare.endswith(("**", "__", "</b>", "</strong>", "`"))
    )
    return Said(answer, bool(is_closed))


def _opens_block(line: str) -> bool:
    return line.strip(" *_") in {opening for opening, _ in _BLOCKS} or (
        line.lstrip().startswith("```") and line.count("```") == 1
    )


def _shown_below(place: Place) -> Said:
    """A displayed formula or block, or the next line when it is short or stands alone."""
    text = (
        place.rest.lstrip(" \t*_") if _opens_block(place.rest.partition("\n")[0]) else place.rest.lstrip("\n \t\r*_>-")
    )
    for opening, closing in _BLOCKS:
        if text.startswith(opening):
            inner, found, _ = text[len(opening) :].partition(closing)
            lines = [line for line in inner.strip().splitlines() if line.strip()]
            if opening == "```" and lines and len(lines) > 1 and re.fullmatch(r"[a-z]+", lines[0]):
                lines = lines[1:]
            return Said(tidied(" ".join(lines)) if len(lines) <= 8 else None, bool(found)) if found else Said(None)
    if environment := _ENVIRONMENT.match(text):
        lines = environment[1].replace("&", "").split("\\\\")
        return Said(tidied(" ".join(lines)) if len(lines) == 1 else None, is_whole=True)
    line, break_, after = text.partition("\n")
    said = _of_line(line, bool(break_))
    if said.answer is None or len(line) > 200:
        return Said(None)
    is_alone = not after.strip() or _AFTERTHOUGHT.match(after.lstrip()) is not None
    is_short = is_mathematical(said.answer) or is_choice(said.answer) or len(line.split()) <= 5
    return said if is_alone or is_short else Said(None)


def below(data: bytes, place: Place) -> Said:
    """What stands below a heading."""
    return _shown_below(place)


def hashed(data: bytes, place: Place) -> Said:
    """What stands behind ####, unless it is a heading of the fourth order."""
    line, break_, _ = place.rest.partition("\n")
    said = _of_line(line, bool(break_))
    is_answer = said.answer is not None and (is_mathematical(said.answer) or is_choice(said.answer) or not break_)
    return said if is_answer else Said(None)


def replied(data: bytes, place: Place) -> Said:
    """What stands behind "A:", if it is no option of several."""
    said = on_line(data, place)
    is_answer = said.answer is not None and is_mathematical(said.answer) and b"\nB:" not in data[place.start :]
    return said if is_answer else Said(None)


def in_sentence(data: bytes, place: Place) -> Said:
    """What a sentence says the answer is: a number, formula or letter, something in bold, or a few words."""
    line, break_, _ = place.rest.partition("\n")
    if _opens_block(line) or not line.strip():
        return _shown_below(place)
    line = " ".join(line[:_MAX_SENTENCE_CHARS].split())
    emphasised = re.match(r"(\*\*|__|\$\$|\$|\\\()\s?(.{1,400}?)\s?(?:\1|\\\))", line)
    if emphasised and not is_placeholder(emphasised[2]):
        return Said(tidied(emphasised[0]), is_whole=True)
    sentence, is_ended = first_sentence(line)
    sentence = _first_clause(sentence)
    if (
        not sentence.strip()
        or sentence[0] in ".,;!?"
        or _NO_PLAIN_VALUE.match(sentence.lstrip("*_ "))
        or len(sentence.split()) > _MAX_SENTENCE_WORDS
    ):
        return Said(None)
    return Said(tidied(sentence), is_ended or bool(break_))


def chosen(data: bytes, place: Place) -> Said:
    """The letter of the option that is said to be correct."""
    letters = re.findall(rb"(?<![A-Za-z0-9])[A-J](?![A-Za-z0-9])", data[max(0, place.start - 80) : place.start])
    return Said(letters[-1].decode() if letters else None, is_whole=place.rest[:1] not in ("", "\n"))


def before_verb(data: bytes, place: Place) -> Said:
    """What stands between the noun and the verb behind it: a number, a formula, a letter, or three words."""
    window = data[max(0, place.start - _VERB_LAST_WITHIN) : place.start]
    begins = _NOUN_IN_FRONT.end(window, len(window))
    between = window[begins:].decode("utf-8", "ignore") if begins >= 0 else ""
    match = None if _WORD_GOES_ON.match(place.rest) else _VERB.search(between)
    answer = tidied(between[: match.start()]) if match else None
    is_answer = answer is not None and (is_mathematical(answer) or is_choice(answer) or len(answer.split()) <= 3)
    return Said(answer if is_answer else None, is_whole=True)


def is_refused(data: bytes, place: Place) -> bool:
    """True where words say that it is not the answer: "there is no answer: 5 is wrong", "the wrong answer is 36"."""
    before = data[max(0, place.start - _REFUSED_WITHIN) : place.start].decode("utf-8", "ignore")
    return _REFUSED.search(before) is not None


def _first_clause(sentence: str) -> str:
    """The sentence up to its first reason, or comma outside of brackets."""
    for match in _CLAUSE_END.finditer(sentence):
        head = sentence[: match.start()]
        if sum(head.count(char) for char in "([{") == sum(head.count(char) for char in ")]}"):
            return head
    return sentence
