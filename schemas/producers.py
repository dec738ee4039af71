"""What producers may write and what it is read as: the rules of tolerance, for the code and for the JSON Schemas alike.

A serialiser writes what its language has: null for a field that was not set, 1.0 for 1, a UUID in capitals or braces. What
can only mean one thing is read as that; what is a mistake stays an error. Only for events that anyone may publish.
"""

import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Struct, inspect

from schemas.ids import UUID7_PATTERN, WRITTEN_UUID7_PATTERN, canonical_uuid

S = TypeVar("S", bound=Struct)
Schema = dict[str, Any]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAX_BYTES = 1 << 19  # no valid event is larger, all its characters escaped
_TEXT_LIMIT = 10**255  # below it, a number's text is short enough for a tag


class Tolerance(NamedTuple):
    """One rule: the types of field it is for, how their values are read, and what the schema of such a field becomes."""

    is_for: Callable[[inspect.Type], bool]
    read: Callable[[Any], Any]  # a value that the rule does not know comes back as it was
    schema: Callable[[Schema], list[Schema]]  # the alternatives that stand for one


def parse(value: bytes) -> Any:
    """The JSON document in `value`: a byte-order mark is passed over, a key written twice is refused.

    Raises: msgspec.DecodeError, UnicodeDecodeError or RecursionError for what is no JSON in UTF-8; msgspec.ValidationError
    for a key that an object has twice.
    """
    text = value.removeprefix(BYTE_ORDER_MARK)
    document = msgspec.json.decode(text)  # stricter than the standard library: no NaN, no lone surrogate
    _check_keys(text)
    return document


def convert(document: Any, event_type: type[S]) -> S:
    """The event that a producer's document means. Raises: msgspec.ValidationError, naming the field."""
    if isinstance(document, dict):
        document = dict(_read_fields(document, event_type))
    return msgspec.convert(document, event_type)


def read(value: bytes, event_type: type[S]) -> S:
    """The event in a producer's record. Raises: what `parse` and `convert` raise."""
    text = value.removeprefix(BYTE_ORDER_MARK)
    try:
        event: S = _decoder(event_type).decode(
            text
        )  # most producers need no tolerance, and it costs five times as much
    except msgspec.ValidationError:
        if len(text) > _MAX_BYTES:
            raise
        try:
            document = msgspec.json.decode(text)
        except msgspec.ValidationError:
            document = None  # a number out of range: only the typed decoder knows the name of its field
        if document is None:
            raise
        event = convert(document, event_type)
    _check_keys(text)  # last, so that it costs nothing for what is refused anyway
    return event


def written_schema(schema: Schema, event_type: type[Struct]) -> Schema:
    """The schema of what is read as an event of this type, from the one that msgspec makes of it."""
    fields = schema["$defs"][event_type.__name__]["properties"]
    for name, field in _fields(event_type).items():
        fields[name] = _written_field(fields[name], field)
    return schema


@cache
def _decoder(event_type: type[S]) -> msgspec.json.Decoder[S]:
    return msgspec.json.Decoder(event_type)


def _read_fields(document: dict[Any, Any], event_type: type[Struct]) -> Iterator[tuple[Any, Any]]:
    fields = _fields(event_type)
    for name, value in document.items():
        field = fields.get(name)
        if field is None:
            yield name, value
        elif value is not None or field.is_required:
            for tolerance in field.tolerances:
                value = tolerance.read(value)
            yield name, value


class _Field(NamedTuple):
    is_required: bool
    tolerances: tuple[Tolerance, ...]


@cache
def _fields(event_type: type[Struct]) -> dict[str, _Field]:
    info = inspect.type_info(event_type)
    assert isinstance(info, inspect.StructType)
    return {
        field.encode_name: _Field(
            field.required,
            tuple(each for each in TOLERANCES if any(each.is_for(kind) for kind in _alternatives(field.type))),
        )
        for field in info.fields
    }


def _alternatives(kind: inspect.Type) -> Iterator[inspect.Type]:
    match kind:
        case inspect.Metadata(type=inner):
            yield from _alternatives(inner)
        case inspect.UnionType(types=kinds):
            for each in kinds:
                yield from _alternatives(each)
        case _:
            yield kind


def _written_field(schema: Schema, field: _Field) -> Schema:
    kept = {name: value for name, value in schema.items() if name in ("description", "default")}
    alternatives = schema.get("anyOf") or [{name: value for name, value in schema.items() if name not in kept}]
    for tolerance in field.tolerances:
        alternatives = [each for alternative in alternatives for each in tolerance.schema(alternative)]
    if not field.is_required and {"type": "null"} not in alternatives:
        alternatives = [*alternatives, {"type": "null"}]
    return {**kept, **(alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives})}


# -- the rules --------------------------------------------------------------------------------------------------------


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _uuid(value: Any) -> Any:
    return canonical_uuid(value) if isinstance(value, str) else value


def _uuid_schema(schema: Schema) -> list[Schema]:
    if schema.get("pattern") != UUID7_PATTERN:
        return [schema]
    description = "UUIDv7 in any usual spelling; read as lower case with dashes"
    return [{"type": "string", "pattern": WRITTEN_UUID7_PATTERN, "description": description}]


def _share(value: Any) -> Any:
    return float(value) if isinstance(value, bool) else value


def _share_schema(schema: Schema) -> list[Schema]:
    return [schema, {"type": "boolean"}] if schema.get("type") == "number" else [schema]


def _labels(value: Any) -> Any:
    return {name: _label(each) for name, each in value.items()} if isinstance(value, dict) else value


def _label(value: Any) -> Any:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float() if abs(value) < _TEXT_LIMIT:
            return str(value)
        case _:
            return value


def _labels_schema(schema: Schema) -> list[Schema]:
    if schema.get("type") != "object":
        return [schema]
    number = {"type": "number", "exclusiveMinimum": -float(_TEXT_LIMIT), "exclusiveMaximum": float(_TEXT_LIMIT)}
    return [
        {**schema, "additionalProperties": {"anyOf": [schema["additionalProperties"], number, {"type": "boolean"}]}}
    ]


def _is_share(kind: inspect.Type) -> bool:
    return isinstance(kind, inspect.FloatType) and (kind.ge, kind.le) == (0.0, 1.0)


def _is_labels(kind: inspect.Type) -> bool:
    return isinstance(kind, inspect.DictType) and isinstance(kind.value_type, inspect.StrType)


# Besides these: null for a field with a default is its default.
TOLERANCES: tuple[Tolerance, ...] = (
    # 1.0 where a whole number is meant. JSON Schema's "integer" takes it as it is.
    Tolerance(lambda kind: isinstance(kind, inspect.IntType), _whole, lambda schema: [schema]),
    # A UUID in capitals, in braces, without dashes, as urn:uuid:.
    Tolerance(lambda kind: isinstance(kind, inspect.StrType) and kind.pattern == UUID7_PATTERN, _uuid, _uuid_schema),
    # true and false where a share of 0 to 1 is meant.
    Tolerance(_is_share, _share, _share_schema),
    # Numbers, true and false where labels are meant: their text.
    Tolerance(_is_labels, _labels, _labels_schema),
)


# -- keys written twice -----------------------------------------------------------------------------------------------


def _check_keys(text: bytes) -> None:
    """Raises: msgspec.ValidationError when an object has a key twice."""
    try:
        _KEYS.decode(text.decode())
    except _Twice:
        where = _written_twice(_AS_WRITTEN.decode(text.decode()), "$")
        raise msgspec.ValidationError(f"the key is written twice; which one counts? - at `{where}`") from None


class _Twice(Exception):
    """An object has a key twice."""


class _Pairs(list[tuple[str, Any]]):
    """An object as it is written."""


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Twice
    return found


def _written_twice(value: Any, path: str) -> str | None:
    """The path of the first key that an object has twice."""
    match value:
        case _Pairs():
            seen: set[str] = set()
            for name, each in value:
                here = f"{path}.{name[:100].replace('`', '?')}"
                if name in seen:
                    return here
                seen.add(name)
                if (found := _written_twice(each, here)) is not None:
                    return found
        case list():
            paths = (_written_twice(each, f"{path}[{index}]") for index, each in enumerate(value))
            return next((found for found in paths if found is not None), None)
    return None


# msgspec keeps the last of two equal keys and has no hook, so the standard library's scanner looks at the keys alone.
_KEYS = json.JSONDecoder(object_pairs_hook=_refuse_twice, parse_int=str, parse_float=str)
_AS_WRITTEN = json.JSONDecoder(object_pairs_hook=_Pairs, parse_int=str, parse_float=str)
