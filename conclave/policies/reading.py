"""From a policy's file to its value, with everything in which the file is not as a policy should be."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from conclave.policies.tables import Problem, TableReader
from conclave.toml_files import table_in, toml_files
from schemas.values import Policy


def files_in(shipped: Path, folders: Iterable[Path], kind: str, problems: list[Problem]) -> list[Path]:
    """The files that ship and those of each folder of `kind`, in order; what is no folder is a problem."""
    paths = sorted(shipped.glob("*.toml"))
    for folder in folders:
        try:
            paths += toml_files(folder)
        except OSError as error:
            problems.append(Problem(str(folder), "", f"a folder of {kind}", _instead(folder, error)))
    return paths


def _instead(path: Path, error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return "no such folder"
        case NotADirectoryError():
            return "a file" if path.is_file() else "what is no folder"
        case _:
            return f"{error}"[:300]


@dataclass(frozen=True, slots=True)
class Read:
    """A policy as it was read: its value, what its file says it is for, and where the file is."""

    policy: Policy
    about: str
    path: Path


def read(path: Path) -> tuple[Read | None, list[Problem]]:
    """The policy in a file, None when there is none to be had, and what is wrong with the file."""
    try:
        table = table_in(path)
    except (OSError, ValueError) as error:
        return None, [Problem(str(path), "", "a policy in TOML", f"{error}"[:300])]
    reader = TableReader(str(path))
    about = reader.text(table.pop("about", ""), "about")
    name, at, version = path.stem.partition("@")
    if at and table.setdefault("version", _number(version)) != _number(version):
        reader.add("version", f"{version}, as in the file's name", table["version"])
    for forbidden in ("name", "digest"):
        if forbidden in table:
            reader.add(
                forbidden,
                "no such field: the file's name is the policy's, its digest is computed",
                table.pop(forbidden),
            )
    _take_wording(table.get("asks"), reader)
    policy = reader.made(Policy, {**table, "name": name}, "")
    if policy is None or reader.problems:
        return None, reader.problems
    return Read(replace(policy, digest=digest(policy)), about, path), []


def digest(policy: Policy) -> str:
    """What tells a policy from every other one: 16 hexadecimal digits of all that it says, but its digest."""
    said = msgspec.json.encode(replace(policy, digest=""), order="deterministic")
    return blake2b(said, digest_size=8).hexdigest()


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def _take_wording(asks: Any, reader: TableReader) -> None:
    """Takes the words out of asks that have any, which is a problem."""
    for name, ask in asks.items() if isinstance(asks, dict) else ():
        if isinstance(ask, dict) and "wording" in ask:
            expected = "no such field: the words of an ask are those of its form"
            reader.add(f"asks.{name}.wording", expected, ask.pop("wording"))
