"""Experiments as files: those that ship, in this folder, and those of any folder that an operator names.

An experiment is a TOML file, `<name>.toml`: arms that name policies, a goal, guardrails, and the bounds within which traffic
moves. A file starts nothing: `conclave experiment start` checks it and publishes it, with who and why, and from there it
travels by value, so that every decomposer goes by the same definition from the same moment on (decision 0020).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from conclave.domain.budget import dearest
from conclave.experiments.checks import problems_of
from conclave.experiments.reading import Read, digest, read
from conclave.policies import PolicySet, Problem
from conclave.policies.reading import files_in
from schemas.experiments import Arm, Experiment

__all__ = ["Found", "load", "pinned"]

_SHIPPED = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Found:
    """Experiments by name, with everything that is wrong with any file. With problems, it is for showing only."""

    rows: Mapping[str, Read]
    problems: tuple[Problem, ...]


def load(*folders: Path, policies: PolicySet) -> Found:
    """The experiments that ship and those of `folders`, whose arms are looked up in `policies`."""
    rows: dict[str, Read] = {}
    problems: list[Problem] = []
    for path in files_in(_SHIPPED, folders, "experiments", problems):
        found, wrong = read(path)
        problems += wrong
        if found is None:
            continue
        problems += problems_of(found, policies)
        earlier = rows.setdefault(found.experiment.name, found)
        if earlier is not found:
            problems.append(Problem(str(path), "", f"a name that no other file has: {earlier.path}", path.stem))
    return Found(dict(sorted(rows.items())), tuple(problems))


def pinned(experiment: Experiment, policies: PolicySet) -> Experiment:
    """The experiment with the digest of each arm's policy as it is now, and its own. Raises: KeyError for none."""
    arms = {name: _pinned(arm, policies) for name, arm in experiment.arms.items()}
    found = replace(experiment, arms=arms)
    if found.shadow is not None:
        (shadow,) = (policies.find(arm.policy) for name, arm in arms.items() if name != experiment.control)
        assert shadow is not None, "pinned above"
        found = replace(found, shadow=replace(found.shadow, price=dearest(shadow)))
    return replace(found, digest=digest(found))


def _pinned(arm: Arm, policies: PolicySet) -> Arm:
    policy = policies.find(arm.policy)
    if policy is None:
        raise KeyError(arm.policy)
    return replace(arm, policy=f"{policy.name}@{policy.version}", policy_digest=policy.digest)
