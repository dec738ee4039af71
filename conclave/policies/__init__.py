"""Reasoning policies as data: those that ship, in this folder, and those of any folder that an operator names.

A policy is a TOML file, `<name>.toml` or `<name>@<version>.toml`: a strategy with its parameters, an ask for each kind of
question that the strategy puts, and a budget. Files are checked together against all tables, prompt sets and forms before
any of them is used; `conclave policies check` does the same for an operator. Only the decomposer reads policies: from there
they travel by value.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from pathlib import Path

from msgspec import UNSET
from msgspec.structs import replace

from conclave import prompts
from conclave.domain.programs import PROGRAMS
from conclave.policies.checks import problems_of
from conclave.policies.reading import Read, digest, files_in, read
from conclave.policies.tables import Problem
from conclave.prompts import PromptSet, wording
from schemas.values import Ask, Policy, Wording

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
    sets = prompts.shipped() if prompt_sets is None else prompt_sets
    for path in files_in(_SHIPPED, folders, "policies", problems):
        found, wrong = read(path)
        problems += wrong
        if found is None:
            continue
        problems += problems_of(found, sets)
        found = _worded(found, sets.get(found.policy.prompt_set))
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


def _worded(found: Read, prompt_set: PromptSet | None) -> Read:
    """The policy with the words of each ask's forms, of which its digest is too; as it is where these say none of their own."""
    said = {name: words for name, ask in found.policy.asks.items() if (words := _words(ask, prompt_set)) != Wording()}
    if not said:
        return found
    asks = {name: replace(ask, wording=said.get(name, UNSET)) for name, ask in found.policy.asks.items()}
    policy = replace(found.policy, asks=asks)
    return dataclasses.replace(found, policy=replace(policy, digest=digest(policy)))


def _words(ask: Ask, prompt_set: PromptSet | None) -> Wording:
    """The words of an ask's own form, and of those that its program asks besides."""
    program = PROGRAMS.get(ask.program)
    names = (*(program.forms if program is not None else ()), ask.form)
    forms = prompt_set.forms if prompt_set is not None else {}
    return wording.together(forms[name].words for name in names if name in forms)
