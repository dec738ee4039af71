"""Whether a reader of one JSON Schema takes everything that another allows: the rule behind "no change breaks a reader".

Covers what msgspec generates: objects, arrays, maps, unions, enums, bounds and patterns. It errs on the side of a break.
"""

from collections.abc import Iterator
from typing import Any

from schemas.ids import UUID7_PATTERN, WRITTEN_UUID7_PATTERN

Schema = dict[str, Any]

# By pattern, those that match nothing but what it matches too.
_NARROWER: dict[str, tuple[str, ...]] = {WRITTEN_UUID7_PATTERN: (UUID7_PATTERN,)}


def breaks(old: Schema, new: Schema, *, is_producer_facing: bool) -> list[str]:
    """Every way in which replacing `old` by `new` breaks someone; empty when it breaks no one.

    New readers must take old events, which lie in the log. Old readers must take new events too, unless producers write
    the event: then the only readers are the services, which are deployed first.
    """
    found = [f"a new reader refuses an old event: {each}" for each in refusals(new, old)]
    if not is_producer_facing:
        found += [f"an old reader refuses a new event: {each}" for each in refusals(old, new)]
    return found


def refusals(reader: Schema, writer: Schema) -> list[str]:
    """Why `reader` may refuse a document that `writer` allows, each with the JSON path it happens at."""
    return list(_Comparison(reader, writer).run())


class _Comparison:
    """Two documents with their `$defs`, compared from their roots."""

    def __init__(self, reader: Schema, writer: Schema) -> None:
        self._reader, self._writer = reader, writer

    def run(self) -> Iterator[str]:
        yield from self._compare(self._reader, self._writer, "$")

    def _compare(self, reader: Schema, writer: Schema, path: str) -> Iterator[str]:
        reader, writer = _resolve(reader, self._reader), _resolve(writer, self._writer)
        if "anyOf" in reader or "anyOf" in writer:
            yield from self._compare_unions(reader, writer, path)
            return
        if not _takes_type(reader, writer):
            yield f"{path} is {_kind(writer)}, expected {_kind(reader)}"
            return
        yield from _compare_values(reader, writer, path)
        match reader.get("type"):
            case "object":
                yield from self._compare_objects(reader, writer, path)
            case "array":
                yield from self._compare(reader.get("items") or {}, writer.get("items") or {}, f"{path}[]")

    def _compare_unions(self, reader: Schema, writer: Schema, path: str) -> Iterator[str]:
        choices = reader.get("anyOf", [reader])
        for option in writer.get("anyOf", [writer]):
            refused = [list(self._compare(choice, option, path)) for choice in choices]
            if all(refused):
                yield min(refused, key=len)[0]

    def _compare_objects(self, reader: Schema, writer: Schema, path: str) -> Iterator[str]:
        for name in reader.get("required", ()):
            if name not in writer.get("required", ()):
                yield f"{path}.{name} is required and may be missing"
        known = reader.get("properties", {})
        for name, schema in writer.get("properties", {}).items():
            if name in known:
                yield from self._compare(known[name], schema, f"{path}.{name}")
            elif reader.get("additionalProperties", True) is False:
                yield f"{path}.{name} is unknown, and unknown fields are refused"
        maps = reader.get("additionalProperties"), writer.get("additionalProperties")
        if isinstance(maps[0], dict) and isinstance(maps[1], dict):
            yield from self._compare(maps[0], maps[1], f"{path}.*")


def _resolve(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    return schema


def _kind(schema: Schema) -> str:
    return "/".join(map(str, schema["enum"])) if "enum" in schema else str(schema.get("type", "anything"))


def _takes_type(reader: Schema, writer: Schema) -> bool:
    if "enum" in reader:
        return "enum" in writer and set(writer["enum"]) <= set(reader["enum"])
    wanted, given = reader.get("type"), writer.get("type", "string" if "enum" in writer else None)
    return wanted is None or wanted == given or (wanted == "number" and given == "integer")


_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def _compare_values(reader: Schema, writer: Schema, path: str) -> Iterator[str]:
    for name in _LOWER:
        if name in reader and not writer.get(name, float("-inf")) >= reader[name]:
            yield f"{path} may be below {name} {reader[name]}"
    for name in _UPPER:
        if name in reader and not writer.get(name, float("inf")) <= reader[name]:
            yield f"{path} may be above {name} {reader[name]}"
    if "pattern" in reader and writer.get("pattern") not in (reader["pattern"], *_NARROWER.get(reader["pattern"], ())):
        yield f"{path} may not match {reader['pattern']}"
