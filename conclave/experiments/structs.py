"""Tables of a file into structs that hold structs, field by field."""

import typing
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from conclave.policies.reading import TableReader


class StructReader(TableReader):
    """Reads structs that hold structs, alone, in tuples or by name."""

    def value(self, kind: Any, value: Any, at: str) -> Any:
        """A field's value, with the structs that it holds read field by field."""
        inner = _struct_in(kind)
        if inner is not None and isinstance(value, dict) and typing.get_origin(_plain(kind)) is dict:
            return self._by_name(kind, inner, value, at)
        if inner is not None and isinstance(value, list):
            return tuple(self._one(inner, each, f"{at}[{place}]") for place, each in enumerate(value))
        if inner is not None and isinstance(value, dict):
            return self.made(inner, value, at)
        return self.converted(kind, value, at)

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


def _plain(kind: Any) -> Any:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind


def _struct_in(kind: Any) -> type[Struct] | None:
    """The struct that a field holds: itself, or as values of a dict or items of a tuple."""
    plain = _plain(kind)
    if typing.get_origin(plain) is None:
        return plain if isinstance(plain, type) and issubclass(plain, Struct) else None
    held = [each for each in typing.get_args(plain) if each is not Ellipsis]
    return _struct_in(held[-1]) if typing.get_origin(plain) in (dict, tuple) and held else None
