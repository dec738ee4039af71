"""Routers as data: those that ship, in this folder, and those of any folder that an operator names.

A router is a TOML file, `<name>.toml`: rules in order, each with what must hold of a question and the policy that it is then given.
`CONCLAVE_ROUTER` names the one that requests without a policy go through; without it none do. Files are checked together,
against the policies that there are, before any of them is used; `conclave routes check` does the same for an operator.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from conclave.policies import PolicySet, Problem
from conclave.policies.reading import files_in
from conclave.routes.reading import Read, read

__all__ = ["Problem", "Read", "RouterSet", "load"]

_SHIPPED = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class RouterSet:
    """Routers by name, all of them sound."""

    rows: Mapping[str, Read]

    @property
    def names(self) -> tuple[str, ...]:
        """The names that there are, in alphabetical order."""
        return tuple(self.rows)

    def __iter__(self) -> Iterator[Read]:
        return iter(self.rows.values())


def load(*folders: Path, policies: PolicySet) -> tuple[RouterSet, list[Problem]]:
    """The routers that ship and those of `folders`, with everything that is wrong with them, all together.

    A set with problems holds what could be read, for whoever shows it; it is not to be used.
    """
    rows: dict[str, Read] = {}
    problems: list[Problem] = []
    for path in files_in(_SHIPPED, folders, "routers", problems):
        found, wrong = read(path, policies)
        problems += wrong
        if found is None:
            continue
        earlier = rows.setdefault(found.router.name, found)
        if earlier is not found:
            problems.append(Problem(str(path), "", f"a name that no other router has: {earlier.path}", path.stem))
    return RouterSet(dict(sorted(rows.items()))), problems
