"""From a policy's file to its value, with everything in which the file is not as a policy should be."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import fields, replace

from schemas.values import Ask, Budget, Policy

S = TypeVar("S", bound=Struct)

_MAX_FILE_BYTES = 1_000_000
_SHOWN_CHARS = 80


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a policy's file. `field` is a path such as asks.whole.form, "" for the whole file."""

    file: str
    field: str
    expected: str
    got: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.field}" if self.field else self.file
        return f"{where}: expected {self.expected}, got {self.got}"


@dataclass(frozen=True, slots=True)
class Read:
    """A policy as it was read: its value, what its file says it is for, and where the file is."""

    policy: Policy
    about: str
    path: Path


def read(path: Path) -> tuple[Read | None, list[Problem]]:
    """The policy in a file, None when there is none to be had, and what is wrong with the file."""
    try:
        table = toml(path)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        return None, [Problem(str(path), "", "a policy in TOML", f"{error}"[:300])]
    reader = _PolicyReader(str(path))
    about = reader.text(table.pop("about", ""), "about")
    name, _, version = path.stem.partition("@")
    if version and table.setdefault("version", _number(version)) != _number(version):
        reader.add("version", f"{version}, as in the file's name", table["version"])
    for forbidden in ("name", "digest"):
        if forbidden in table:
            reader.add(
                forbidden,
                "no such field: the file's name is the policy's, its digest is computed",
                table.pop(forbidden),
            )
    values = reader.struct(Policy, {**table, "name": name}, "")
    if reader.problems:
        return None, reader.problems
    policy = Policy(**values)
    return Read(replace(policy, digest=digest(policy)), about, path), []


def digest(policy: Policy) -> str:
    """What tells a policy from every other one: 16 hexadecimal digits of all that it says, but its digest."""
    said = msgspec.json.encode(replace(policy, digest=""), order="deterministic")
    return blake2b(said, digest_size=8).hexdigest()


def toml(path: Path) -> dict[str, Any]:
    """The table in a file. Raises: OSError, UnicodeDecodeError, ValueError or RecursionError for what is none."""
    with path.open("rb") as file:
        content = file.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError(f"more than {_MAX_FILE_BYTES} bytes")
    return tomllib.loads(content.decode())


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


class TableReader:
    """Converts tables field by field, so that all problems of a file are found and not only the first."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.problems: list[Problem] = []

    def add(self, field: str, expected: str, got: object) -> None:
        """Notes a problem."""
        shown = got if isinstance(got, str) and got == "nothing" else repr(got)
        self.problems.append(Problem(self._file, field, expected, str(shown)[:_SHOWN_CHARS]))

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
                self.add(_under(at, name), f"no such field; there are: {', '.join(known)}", table[name])
        values: dict[str, Any] = {}
        for name, field in known.items():
            if name in table:
                values[name] = self.value(field.type, table[name], _under(at, name))
            elif field.required:
                self.add(_under(at, name), "a value", "nothing")
        return values

    def value(self, kind: Any, value: Any, at: str) -> Any:
        """A field's value as its type has it, None for what can't be converted; the reader of a kind of file knows its structs."""
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
        if isinstance(value, float) and not math.isfinite(value):
            self.add(at, "a finite number", value)
            return None
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            self.add(at, str(error).removeprefix("Expected ").partition(" - at `$")[0].partition(", got ")[0], value)
            return None


class _PolicyReader(TableReader):
    """Knows the structs inside a policy."""

    def value(self, kind: Any, value: Any, at: str) -> Any:
        """A budget and asks, field by field."""
        if at == "budget" and isinstance(value, dict):
            return self.made(Budget, value, at)
        if at == "asks" and isinstance(value, dict) and value:
            tables = {name: dict(table) for name, table in value.items() if isinstance(table, dict)}
            for name, table in tables.items():
                if "wording" in table:
                    expected = "no such field: the words of an ask are those of its form"
                    self.add(f"asks.{name}.wording", expected, table.pop("wording"))
            for name in value.keys() - tables.keys():
                self.add(f"asks.{name}", "an ask: a table", value[name])
            return {name: self.made(Ask, table, f"asks.{name}") for name, table in tables.items()}
        return self.converted(kind, value, at)


def _under(at: str, name: str) -> str:
    return f"{at}.{name}" if at and name else at or name
