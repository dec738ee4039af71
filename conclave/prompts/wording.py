"""The words of a form, checked: what its model says to be understood, and how it is told things. The table `wording` of a form.

Of patterns (RE2) all of what is looked at has to match; templates have {fields}. What a form doesn't say is worded as
`schemas.values.Wording` has it, in English.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from string import Formatter

from msgspec.structs import asdict, fields

from conclave.domain.extraction.patterns import BadPattern, compiled
from schemas.values import Wording


@dataclass(frozen=True, slots=True)
class Reads:
    """A pattern that is looked for in what the form's model says, and the groups that it must have and may have."""

    about: str
    groups: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Writes:
    """What is written into a field of the form, and the {fields} that it may have itself; none of a plain text."""

    about: str
    fields: tuple[str, ...] = ()


WORDS: Mapping[str, Reads | Writes] = {
    "no_follow_up": Reads("of `self_ask`: a first line that says that no follow-up is left"),
    "no_call": Reads("of `act`: an argument that says that there is no call to make"),
    "gives_answer": Reads("of trees: a line that gives the answer"),
    "part": Reads("of splits and follow-ups: a line that is a part", ("number", "text"), ("needs",)),
    "blames": Reads("of `check`: a verdict that a step is wrong", ("step",)),
    "names_choice": Reads("of `select`: a reply that names a candidate by its label", ("label",)),
    "content": Writes("of `check`: the verdict that nothing is wrong"),
    "known": Writes("a line of {earlier}: what a part or follow-up came to", ("number", "answer")),
    "known_in_full": Writes("a line of {earlier_in_full}: the same", ("number", "question", "answer")),
    "voted": Writes("a line of {earlier}: an answer of a round, and how many paths gave it", ("answer", "votes")),
    "voted_once": Writes("the same of an answer that one path gave", ("answer", "votes")),
    "called": Writes("a line of {earlier}: a call and what came of it", ("argument", "result")),
    "not_called": Writes("a line of {earlier}: a call of which nothing came", ("argument", "reason", "why")),
    "trial": Writes("a line of {trials}: an attempt and what a critic said of it", ("number", "answer", "criticism")),
    "answered": Writes("the last line of a branch in {path}, where none of its own gives the answer", ("answer",)),
    "no_answer": Writes("what stands for the answer of what has none"),
}


def problems(given: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """All that is wrong with a form's words, as the word, what was expected and what is there."""
    for name, text in given.items():
        match WORDS.get(name):
            case None:
                yield "", f"words out of {', '.join(WORDS)}", name
            case Reads() as word:
                yield from _pattern(name, text, word)
            case Writes() as word:
                yield from _template(name, text, word)
        if len(text) > _MAX_CHARS:
            yield name, f"at most {_MAX_CHARS:,} characters", text[:100]


def together(forms: Iterable[Wording]) -> Wording:
    """The words of several forms in one: of the last of them, where several say another than all others do."""
    plain = asdict(Wording())
    said = {name: text for each in forms for name, text in asdict(each).items() if text != plain[name]}
    return Wording(**said)


_MAX_CHARS = 1_000
assert WORDS.keys() == {each.name for each in fields(Wording)}


def _pattern(name: str, text: str, word: Reads) -> Iterator[tuple[str, str, str]]:
    try:
        found = set(compiled(text, has_groups=True, ignores_case=False).groupindex)
    except BadPattern as error:
        yield name, f"a regular expression of RE2 ({error})", text[:100]
        return
    for group in word.groups:
        if group not in found:
            yield name, f"a pattern with a group (?P<{group}>…)", text[:100]
    for group in sorted(found - {*word.groups, *word.optional}):
        yield name, f"no groups but {', '.join((*word.groups, *word.optional)) or 'plain ones'}", group


def _template(name: str, text: str, word: Writes) -> Iterator[tuple[str, str, str]]:
    if not word.fields:
        return
    known = "{" + "}, {".join(word.fields) + "}"
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        yield name, f"{known}, other braces doubled ({error})", text[:100]
        return
    for _, field, spec, conversion in parts:
        if field is not None and (field not in word.fields or spec or conversion):
            yield name, f"plain fields out of {known}, other braces doubled", text[:100]
