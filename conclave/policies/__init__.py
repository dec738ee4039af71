"""Reasoning policies as data: those that ship, in this folder, and those of any folder that an operator names.

A policy is a TOML file, `<name>.toml` or `<name>@<version>.toml`: a strategy with its parameters, an ask for each kind of
question that the strategy puts, and a budget. Files are checked together against all tables, prompt sets and forms before
any of them is used; `conclave policies check` does the same for an operator. Only the decomposer reads policies: from there
they travel by value.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from pathlib import Path

from conclave import prompts
from conclave.policies.checks import problems_of
from conclave.policies.reading import Problem, Read, read
from conclave.prompts import PromptSet
from schemas.values import Policy

__all__ = ["PolicySet", "Problem", "load", "shipped"]

_SHIPPED = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Policies by name and version, all of them sound."""

    rows: Mapping[tuple[str, int], Read]
    _by_reference: dict[str, Policy] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_reference: dict[str, Policy] = {}
        for (name, version), found in sorted(
            self.rows.items(), key=itemgetter(0)
        ):  # so that the newest stays under its name
            by_reference[name] = by_reference[f"{name}@{version}"] = found.policy
        object.__setattr__(self, "_by_reference", by_reference)

    def find(self, reference: str) -> Policy | None:
        """The policy that `name` (its newest version) or `name@version` refers to; None when there is none."""
        return self._by_reference.get(reference)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that there are, in alphabetical order."""
        return tuple(sorted({name for name, _ in self.rows}))

    def __iter__(self) -> Iterator[Read]:
        return iter(self.rows.values())


def load(*folders: Path, prompt_sets: Mapping[str, PromptSet] | None = None) -> tuple[PolicySet, list[Problem]]:
    """The policies that ship and those of `folders`, with everything that is wrong with them, all together.

    Their forms are looked up in `prompt_sets`: those that ship, unless others are given.

    A set with problems holds what could be read, for whoever shows it; it is not to be used.
    """
    rows: dict[tuple[str, int], Read] = {}
    problems: list[Problem] = []
    for path in _files(folders, problems):
        found, wrong = read(path)
        problems += wrong
        if found is None:
            continue
        problems += problems_of(found, prompts.shipped() if prompt_sets is None else prompt_sets)
        key = (found.policy.name, found.policy.version)
        earlier = rows.setdefault(key, found)
        if earlier is not found:
            expected = f"a version of {key[0]} that no other file has: {earlier.path} is version {key[1]}"
            problems.append(Problem(str(path), "version", expected, str(key[1])))
    return PolicySet(dict(sorted(rows.items()))), problems


@cache
def shipped() -> PolicySet:
    """The policies that ship."""
    found, problems = load()
    assert not problems, problems
    return found


def _files(folders: Iterable[Path], problems: list[Problem]) -> list[Path]:
    paths = sorted(_SHIPPED.glob("*.toml"))
    for folder in folders:
        if folder.is_dir():
            paths += sorted(folder.glob("*.toml"))
        else:
            problems.append(Problem(str(folder), "", "a folder of policies", "no such folder"))
    return paths
