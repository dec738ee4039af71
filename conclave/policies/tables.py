"""Tables of a file into structs, field by field, so that all that is wrong with the file is found and not only the first."""

import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import fields

from conclave.domain.printable import in_one_line

S = TypeVar("S", bound=Struct)

_SHOWN_CHARS = 80


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a file. `field` is a path such as asks.whole.form, "" for the whole file."""

    file: str
    field: str
    expected: str
    got: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.field}" if self.field else self.file
        return in_one_line(f"{where}: expected {self.expected}, got {self.got}")


class TableReader:
    """Converts tables to structs, with the structs that they hold: alone, in tuples or by name."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.problems: list[Problem] = []

    def add(self, field: str, expected: str, got: object) -> None:
        """Notes a problem."""
        shown = got if isinstance(got, str) and got == "nothing" else repr(got)
        self.problems.append(Problem(self._file, in_one_line(field), expected, str(shown)[:_SHOWN_CHARS]))

    def text(self, value: object, field: str) -> str:
        """A text; "", with the problem noted, for anything else."""
        if isinstance(value, str):
            return value
        self.add(field, "a text", value)
        return ""

    def struct(self, kind: type[Struct], table: Mapping[str, Any], at: str) -> dict[str, Any]:
        """The fields of a struct that could be converted; what could not is a problem."""
        known = {field.name: field for field in fields(kind)}
        for name in table:
            if name not in known:
                shown = _under(at, name)[:_SHOWN_CHARS]
                self.add(shown, f"no such field; there are: {', '.join(known)}", table[name])
        values: dict[str, Any] = {}
        for name, field in known.items():
            if name in table:
                values[name] = self.value(field.type, table[name], _under(at, name))
            elif field.required:
                self.add(_under(at, name), "a value", "nothing")
        return values

    def value(self, kind: Any, value: Any, at: str) -> Any:
        """A field's value as its type has it, None for what can't be converted."""
        inner, held_in = _struct_in(kind), typing.get_origin(_plain(kind))
        if inner is not None and held_in is tuple and isinstance(value, list):
            made = tuple(self._one(inner, each, f"{at}[{place}]") for place, each in enumerate(value))
            return made if None in made else self.converted(kind, made, at)
        if inner is not None and held_in is not tuple and isinstance(value, dict):
            return self._by_name(kind, inner, value, at) if held_in is dict else self.made(inner, value, at)
        return self.converted(kind, value, at)

    def made(self, kind: type[S], table: Mapping[str, Any], at: str) -> S | None:
        """A struct of a table; None, with the problems noted, when it can't be made."""
        num_before = len(self.problems)
        values = self.struct(kind, table, at)
        if len(self.problems) > num_before:
            return None
        try:
            return kind(**values)
        except ValueError as error:
            text, _, place = str(error).partition(" - at `$.")
            self.add(_under(at, place.rstrip("`")) or "the file", text, dict(table))
            return None

    def converted(self, kind: Any, value: Any, at: str) -> Any:
        """A value as msgspec makes it of TOML's; None, with the problem noted, when it can't."""
        if (endless := _endless(value, at)) is not None:
            self.add(endless[0], "a finite number", endless[1])
            return None
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            expected, _, place = str(error).removeprefix("Expected ").partition(" - at `")
            self.add(at, expected.partition(", got ")[0], list(value) if place.startswith("key`") else value)
            return None

    def _by_name(self, kind: Any, inner: type[Struct], value: Mapping[str, Any], at: str) -> dict[str, Any]:
        made = {name: self._one(inner, each, f"{at}.{name}") for name, each in value.items()}
        if None not in made.values():  # how many there may be, and what they may be called, only the whole type knows
            self.converted(kind, made, at)
        return made

    def _one(self, kind: type[Struct], value: Any, at: str) -> Any:
        if isinstance(value, dict):
            return self.made(kind, value, at)
        self.add(at, "a table", value)
        return None


def _endless(value: Any, at: str) -> tuple[str, float] | None:
    """The first number in a value that is none or has no end, with its place. No event could hold it."""
    if isinstance(value, float):
        return None if math.isfinite(value) else (at, value)
    held = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    places = ((each, f"{at}[{place}]" if isinstance(place, int) else _under(at, str(place))) for place, each in held)
    return next((found for each, place in places if (found := _endless(each, place)) is not None), None)


def _under(at: str, name: str) -> str:
    return f"{at}.{name}" if at and name else at or name


def _plain(kind: Any) -> Any:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind


def _struct_in(kind: Any) -> type[Struct] | None:
    """The struct that a field holds: itself or none, or as values of a dict or items of a tuple."""
    plain = _plain(kind)
    if typing.get_origin(plain) is None:
        return plain if isinstance(plain, type) and issubclass(plain, Struct) else None
    held = [each for each in typing.get_args(plain) if each is not Ellipsis and each is not type(None)]
    holds = typing.get_origin(plain) in (dict, tuple) or type(None) in typing.get_args(plain)
    return _struct_in(held[-1]) if holds and held else None
