"""From an experiment's file to its value, with everything in which the file is not as an experiment should be."""

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import msgspec
from msgspec.structs import replace

from conclave.policies.tables import Problem, TableReader
from conclave.toml_files import table_in
from schemas.experiments import Experiment


@dataclass(frozen=True, slots=True)
class Read:
    """An experiment as it was read: its value, what its file says it is for, and where the file is."""

    experiment: Experiment
    about: str
    path: Path


def read(path: Path) -> tuple[Read | None, list[Problem]]:
    """The experiment in a file, None when there is none to be had, and what is wrong with the file."""
    try:
        table = table_in(path)
    except (OSError, ValueError) as error:
        return None, [Problem(str(path), "", "an experiment in TOML", f"{error}"[:300])]
    reader = TableReader(str(path))
    about = reader.text(table.pop("about", ""), "about")
    for forbidden in ("name", "digest"):
        if forbidden in table:
            expected = "no such field: the file's name is the experiment's, its digest is computed"
            reader.add(forbidden, expected, table.pop(forbidden))
    experiment = reader.made(Experiment, {**table, "name": path.stem}, "")
    return (None if experiment is None else Read(experiment, about, path)), reader.problems


def digest(experiment: Experiment) -> str:
    """What tells an experiment from every other one: 16 hexadecimal digits of all that it says, but its digest."""
    said = msgspec.json.encode(replace(experiment, digest=""), order="deterministic")
    return blake2b(said, digest_size=8).hexdigest()
