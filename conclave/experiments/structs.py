"""Tables of a file into structs, field by field, so that everything that is wrong is found and not only the first."""

import math
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import fields

S = TypeVar("S", bound=Struct)

_SHOWN_CHARS = 80


class StructReader:
    """Reads structs that hold structs, alone, in tuples or by name. `found` is (field, expected, got) of each problem."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str, str]] = []

    def add(self, field: str, expected: str, got: object) -> None:
        """Notes a problem."""
        shown = got if got == "nothing" else repr(got)
        self.found.append((field, expected, str(shown)[:_SHOWN_CHARS]))

    def read(self, kind: type[S], table: Mapping[str, Any], at: str = "") -> S | None:
        """The struct; None where anything is wrong with it, which is then in `found`."""
        num_before = len(self.found)
        known = {field.name: field for field in fields(kind)}
        for name in table:
            if name not in known:
                self.add(_under(at, name), f"no such field; there are: {', '.join(known)}", table[name])
        values: dict[str, Any] = {}
        for name, field in known.items():
            if name in table:
                values[name] = self._value(field.type, table[name], _under(at, name))
            elif field.required:
                self.add(_under(at, name), "a value", "nothing")
        if len(self.found) > num_before:
            return None
        try:
            return kind(**values)
        except ValueError as error:
            text, _, place = str(error).partition(" - at `$.")
            self.add(_under(at, place.rstrip("`")) or "the file", text, dict(table))
            return None

    def _value(self, kind: Any, value: Any, at: str) -> Any:
        inner = _struct_in(kind)
        if inner is not None and isinstance(value, dict) and typing.get_origin(_plain(kind)) is dict:
            return self._by_name(kind, inner, value, at)
        if inner is not None and isinstance(value, list):
            return tuple(self._one(inner, each, f"{at}[{place}]") for place, each in enumerate(value))
        if inner is not None and isinstance(value, dict):
            return self.read(inner, value, at)
        return self._converted(kind, value, at)

    def _by_name(self, kind: Any, inner: type[Struct], value: Mapping[str, Any], at: str) -> dict[str, Any]:
        made = {name: self._one(inner, each, f"{at}.{name}") for name, each in value.items()}
        if None not in made.values():  # how many there may be, and what they may be called, only the whole type knows
            self._converted(kind, made, at)
        return made

    def _one(self, kind: type[Struct], value: Any, at: str) -> Any:
        if isinstance(value, dict):
            return self.read(kind, value, at)
        self.add(at, "a table", value)
        return None

    def _converted(self, kind: Any, value: Any, at: str) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            self.add(at, "a finite number", value)
            return None
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            expected = str(error).removeprefix("Expected ").partition(" - at `$")[0].partition(", got ")[0]
            self.add(at, expected, value)
            return None


def _plain(kind: Any) -> Any:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind


def _struct_in(kind: Any) -> type[Struct] | None:
    """The struct that a field holds: itself, or as values of a dict or items of a tuple."""
    plain = _plain(kind)
    if typing.get_origin(plain) is None:
        return plain if isinstance(plain, type) and issubclass(plain, Struct) else None
    held = [each for each in typing.get_args(plain) if each is not Ellipsis]
    return _struct_in(held[-1]) if typing.get_origin(plain) in (dict, tuple) and held else None


def _under(at: str, name: str) -> str:
    return f"{at}.{name}" if at and name else at or name
