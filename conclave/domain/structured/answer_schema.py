"""The JSON Schema of an answer: taken at the door if it can be checked in bounded time whatever models write, and validating."""

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from conclave.errors import Rejected
from schemas.values import MAX_SCHEMA_CHARS

if TYPE_CHECKING:  # a sixth of what a voter imports: the first request with a schema waits for it, and no start
    from jsonschema import Draft202012Validator

MAX_FIELDS = 32
WHOLE = "$"  # names the object itself, where its schema names no properties
MAX_NODES, MAX_DEPTH = 500, 12
_MAX_NAME_CHARS = 48
_AT_LEAST_MORE = 4 * MAX_SCHEMA_CHARS  # of what is written out for references, before the whole is counted
_FENCE = "```"

_MAPS = frozenset({"properties", "dependentSchemas"})
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_ONES = frozenset(
    {"items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames", "unevaluatedItems",
     "unevaluatedProperties"}
)  # fmt: skip
_DEFINITIONS = ("$defs", "definitions")
# A pattern takes any time on some text; the others make a schema depend on more than itself.
_REFUSED = frozenset(
    {
        "pattern",
        "patternProperties",
        "$id",
        "$anchor",
        "$dynamicAnchor",
        "$dynamicRef",
        "$recursiveRef",
        "$recursiveAnchor",
    }
)


def accepted(document: Mapping[str, Any]) -> str:
    """The schema as it travels: JSON, references to its own definitions written out. Raises: Rejected, naming what is wrong.

    It describes an object with up to 32 named properties, which are voted on one by one; without any, the object is voted on
    as a whole.
    """
    names = document.get("properties", {})
    if document.get("type") != "object" or not isinstance(names, Mapping) or len(names) > MAX_FIELDS:
        raise Rejected("$.answer_schema", f'type "object" with up to {MAX_FIELDS} properties', _shown(document))
    for name in names:
        if not _is_name(name):
            expected = f"names of up to {_MAX_NAME_CHARS} ASCII characters, and not {WHOLE}"
            raise Rejected("$.answer_schema.properties", expected, repr(name))
    whole = written_out(document)
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(whole)
    except SchemaError as error:
        at = ".".join(["$.answer_schema", *map(str, error.absolute_path)])
        raise Rejected(at, "as JSON Schema 2020-12 has it", error.message[:300]) from None
    text = msgspec.json.encode(whole).decode()
    if len(text) > MAX_SCHEMA_CHARS:
        raise Rejected(
            "$.answer_schema", f"up to {MAX_SCHEMA_CHARS} characters, references written out", str(len(text))
        )
    return text


def written_out(document: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with references to its own definitions written out, and without these. Raises: Rejected."""
    written: dict[str, Any] = _Inliner(document).schema(document, "$.answer_schema", ())
    return written


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _MAX_NAME_CHARS and name.isascii() and name.isprintable() and name != WHOLE


@lru_cache(maxsize=256)
def is_usable(schema: str) -> bool:
    """True for a schema as `accepted` has it, and for none: what a forged event says may be anything."""
    if not schema:
        return True
    try:
        document = msgspec.json.decode(schema, type=dict[str, Any])
        return bool(accepted(document))
    except (msgspec.MsgspecError, Rejected, RecursionError):
        return False


def field_names(schema: str) -> tuple[str, ...]:
    """What is voted on: the properties of an accepted schema, in its order, or the whole object where it has none."""
    return tuple(_document(schema).get("properties") or (WHOLE,))


@lru_cache(maxsize=8192)
def read(answer: str, schema: str) -> dict[str, Any] | None:
    """The object that an answer writes; None when it writes none, or one that the schema does not allow.

    What it returns is shared: not to be changed.
    """
    try:
        value = msgspec.json.decode(_unfenced(answer))
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    return value if isinstance(value, dict) and is_valid(value, schema) else None


def _unfenced(text: str) -> str:
    """A text without the fence that a model puts around code where its server does not hold it to JSON."""
    text = text.strip()
    if text.startswith(_FENCE) and text.endswith(_FENCE) and len(text) > 2 * len(_FENCE):
        return text.removeprefix(_FENCE).removeprefix("json").removesuffix(_FENCE).strip()
    return text


def is_valid(value: object, schema: str) -> bool:
    """True for what an accepted schema allows."""
    return _validator(schema).is_valid(value)


@lru_cache(maxsize=256)
def _validator(schema: str) -> "Draft202012Validator":
    from jsonschema import Draft202012Validator

    return Draft202012Validator(_document(schema))


@lru_cache(maxsize=256)
def _document(schema: str) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.json.decode(schema)
    return document


class _Inliner:
    """Writes references out, and counts what it writes: a small schema can stand for a huge one."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root, self._num_nodes, self._num_chars = root, 0, 0

    def schema(self, schema: Any, at: str, inside: tuple[str, ...], depth: int = 0) -> Any:
        self._num_nodes += 1
        if self._num_nodes > MAX_NODES or depth > MAX_DEPTH:
            expected = f"at most {MAX_NODES} schemas, {MAX_DEPTH} deep, references written out"
            raise Rejected(at, expected, "more")
        if not isinstance(schema, Mapping):
            return schema
        if "$ref" in schema:
            found, inside = self._target(schema["$ref"], at, inside)
            schema = {**found, **{name: value for name, value in schema.items() if name != "$ref"}}
            return self.schema(schema, at, inside, depth + 1)
        written: dict[str, Any] = {}
        for name, value in schema.items():
            where = f"{at}.{name}"
            if name in _REFUSED:
                raise Rejected(where, f"none of {', '.join(sorted(_REFUSED))}", _shown(value))
            if name in _MAPS and isinstance(value, Mapping):
                written[name] = {
                    key: self.schema(each, f"{where}.{key}", inside, depth + 1) for key, each in value.items()
                }
            elif name in _LISTS and isinstance(value, list):
                written[name] = [self.schema(each, where, inside, depth + 1) for each in value]
            elif name in _ONES:
                written[name] = self.schema(value, where, inside, depth + 1)
            elif name not in _DEFINITIONS:
                written[name] = value
        return written

    def _target(self, reference: Any, at: str, inside: tuple[str, ...]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        for folder in _DEFINITIONS:
            name = str(reference).removeprefix(f"#/{folder}/")
            defined = self._root.get(folder)
            if name != reference and isinstance(defined, Mapping) and isinstance(defined.get(name), Mapping):
                if name in inside:
                    raise Rejected(f"{at}.$ref", "a definition that does not contain itself", str(reference))
                self._num_chars += len(msgspec.json.encode(defined[name]))
                if self._num_chars > _AT_LEAST_MORE:
                    raise Rejected(at, f"up to {MAX_SCHEMA_CHARS} characters, references written out", "more")
                return defined[name], (*inside, name)
        raise Rejected(f"{at}.$ref", "a definition of the schema's own: #/$defs/NAME", _shown(reference))


def _shown(value: object) -> str:
    return repr(value)[:200]
