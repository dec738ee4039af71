"""Prompt sets out of TOML, checked before anything is asked with them."""

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from string import Formatter
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from conclave.domain.extraction import EXTRACTORS, Extractor, by_patterns
from conclave.domain.extraction.patterns import BadPattern, Pattern
from conclave.errors import WrongSetting
from conclave.prompts import wording
from conclave.prompts.forms import FIELDS, Form, Produces, PromptSet, ToolUse
from conclave.toml_files import parsed
from schemas.values import Name, Wording

_Text = Annotated[str, Meta(min_length=1, max_length=16_384)]
_OF_THE_SET = {"declines": 200, "purpose": 1_000}  # what stands before its forms, and how long it may be
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class _Row(Struct):
    """A form as the file has it."""

    user: _Text
    system: _Text | None = None
    begun: _Text | None = None
    stop: Annotated[tuple[_Text, ...], Meta(max_length=16)] = ()
    extract: Name | None = None
    answer: Annotated[tuple[_Text, ...], Meta(max_length=16)] = ()
    otherwise: dict[str, _Text] = {}
    produces: Produces = Produces.ANSWER
    satisfied: _Text | None = None
    out_of: Annotated[float, Meta(gt=0.0, le=1e6)] | None = None
    tool: Name | None = None
    tools: Annotated[tuple[Name, ...], Meta(max_length=16)] = ()
    call: _Text | None = None
    observe: _Text | None = None
    wording: dict[str, _Text] = {}


def read_set(name: str, file: str, text: str, tools: Collection[str]) -> tuple[PromptSet, list[WrongSetting]]:
    """The set that `text` holds, and all that is wrong with it: file, form, key, what was expected. Forms at fault are left out."""
    if not _NAME.fullmatch(name):
        return PromptSet(name, {}), [WrongSetting(file, "a name of lower-case letters, digits, dots and dashes", name)]
    try:
        data = parsed(text)
    except ValueError as error:
        return PromptSet(name, {}), [WrongSetting(file, f"TOML ({error})", text[:60])]
    rows = data.pop("forms", None)
    if data.keys() - _OF_THE_SET or not isinstance(rows, dict) or not rows:
        expected = f"tables [forms.<name>], {' and '.join(_OF_THE_SET)}, and nothing else"
        return PromptSet(name, {}), [WrongSetting(file, expected, ", ".join(data))]
    forms: dict[str, Form] = {}
    faults: list[WrongSetting] = []
    for form, row in rows.items():
        for key, expected, got in _read_form(form, row, tools, forms):
            faults.append(WrongSetting(f"{file} [forms.{form}] {key}".rstrip(), expected, got))
    said = {}
    for key, max_chars in _OF_THE_SET.items():
        said[key] = data.get(key, "")
        if not isinstance(said[key], str) or len(said[key]) > max_chars:
            faults.append(
                WrongSetting(f"{file} {key}", f"a text of at most {max_chars} characters", str(said[key])[:100])
            )
            said[key] = ""
    return _declining(PromptSet(name, forms, said["purpose"]), said["declines"].strip()), faults


def _declining(read: PromptSet, declines: str) -> PromptSet:
    """The set with what its model declines by, in every form that asks for an answer or a plan."""
    asking = {Produces.ANSWER, Produces.PLAN}
    forms = {
        name: replace(form, declines=declines) if form.produces in asking else form for name, form in read.forms.items()
    }
    return replace(read, forms=forms)


_Fault = tuple[str, str, str | None]


def _read_form(name: str, data: object, tools: Collection[str], forms: dict[str, Form]) -> Iterator[_Fault]:
    """All that is wrong with a form, as key, what was expected and what is there; one without fault goes into `forms`."""
    if not _NAME.fullmatch(name):
        yield "", "a name of lower-case letters, digits, dots and dashes", name
    if not isinstance(data, dict):
        yield "", "a table", str(data)[:100]
        return
    for key in data.keys() - set(_Row.__struct_fields__):
        yield key, f"one of {', '.join(_Row.__struct_fields__)}", str(data[key])[:100]
    try:
        row = msgspec.convert(data, _Row)
    except msgspec.ValidationError as error:
        expected, _, at = str(error).partition(" - at ")
        key = at.strip("`").removeprefix("$").removeprefix(".")
        yield key, expected.removeprefix("Expected "), str(data.get(key, data))[:100]
        return
    faults = [*_fields(row), *_patterns(row), *_extraction(row), *_kind(row), *_tool(row, tools), *_words(row)]
    yield from faults
    if not faults:  # what else is wrong with it refuses the set anyway
        forms[name] = _form(name, row)


def _fields(row: _Row) -> Iterator[_Fault]:
    known = "plain fields, {" + "}, {".join(FIELDS) + "}"
    for key, template in (("user", row.user), ("begun", row.begun or "")):
        try:
            parts = list(Formatter().parse(template))
        except ValueError as error:
            yield key, f"{known}, other braces doubled ({error})", template[:100]
            return
        for _, field, spec, conversion in parts:
            if field is not None and (field not in FIELDS or spec or conversion):
                yield key, known, f"{{{field}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}}}"
    for field in row.otherwise:
        if field not in _asked(row):
            yield "otherwise", f"fields that `user` has, {', '.join(_asked(row)) or 'none'}", field


def _patterns(row: _Row) -> Iterator[_Fault]:
    for key, pattern in (*(("answer", each) for each in row.answer), *([("call", row.call)] if row.call else [])):
        try:
            groups = Pattern(pattern).group_names
        except BadPattern as error:
            yield key, f"a regular expression of RE2 ({error})", pattern[:100]
            continue
        if key == "call" and "argument" not in groups:
            yield key, "a pattern with a group (?P<argument>…)", pattern[:100]


def _extraction(row: _Row) -> Iterator[_Fault]:
    if row.extract is not None and row.extract not in EXTRACTORS:
        yield "extract", f"one of {', '.join(EXTRACTORS)}", row.extract
    if row.extract is not None and row.answer:
        yield "answer", "no patterns where `extract` names what finds the answer", row.answer[0][:100]


def _kind(row: _Row) -> Iterator[_Fault]:
    if (row.satisfied is not None) != (row.produces is Produces.CRITICISM):
        yield (
            "satisfied",
            'the critic\'s answer when nothing is wrong, with produces = "criticism" and only there',
            row.satisfied,
        )
    if row.out_of is not None and row.produces is not Produces.PROBABILITY:
        yield "out_of", 'only with produces = "probability"', str(row.out_of)


def _tool(row: _Row, tools: Collection[str]) -> Iterator[_Fault]:
    offer = "tools" if row.tools else "tool"
    given = [key for key in (offer, "call", "observe") if getattr(row, key)]
    if not given:
        return
    for key in sorted({offer, "call", "observe"} - set(given)):
        yield key, f"a value, as there is `{given[0]}`", None
    for tool in _offered(row):
        if tool not in tools:
            yield offer, f"one of {', '.join(tools)}", tool
    if row.tool and row.tools:
        yield "tool", "either `tool` or `tools`", row.tool
    if row.tools and row.call and "(?P<tool>" not in row.call:
        yield "call", "a pattern with a group (?P<tool>…), which names one of `tools`", row.call[:100]
    if row.observe is not None and row.observe.count("{result}") != 1:
        yield "observe", "{result} once, where the tool's answer goes", row.observe[:100]
    if not row.stop:
        yield "stop", "the string that ends a call, so that the model waits for its result", None


def _words(row: _Row) -> Iterator[_Fault]:
    for word, expected, got in wording.problems(row.wording):
        yield f"wording.{word}".rstrip("."), expected, got


def _offered(row: _Row) -> tuple[str, ...]:
    return row.tools or ((row.tool,) if row.tool else ())


def _asked(row: _Row) -> tuple[str, ...]:
    """The fields of a valid template, each once."""
    return tuple(dict.fromkeys(field for _, field, _, _ in Formatter().parse(row.user) if field))


def _extractor(row: _Row) -> Extractor | None:
    extractor = EXTRACTORS[row.extract] if row.extract is not None else by_patterns(row.answer) if row.answer else None
    if extractor is not None:
        # RE2 builds its tables at the first text, in 20 ms: not while the first path waits.
        extractor("Answer: 1", False)
    return extractor


def _form(name: str, row: _Row) -> Form:
    use = None
    if _offered(row) and row.call is not None and row.observe is not None:
        use = ToolUse(_offered(row), Pattern(rf"(?:{row.call})\z", ignores_case=False), row.observe)
    return Form(
        name=name,
        user=row.user,
        system=row.system,
        begun=row.begun or "",
        stop=row.stop,
        extractor=_extractor(row),
        fields=_asked(row),
        otherwise=row.otherwise,
        produces=row.produces,
        satisfied=row.satisfied or "",
        out_of=row.out_of or 1.0,
        tool_use=use,
        words=Wording(**row.wording),
    )
