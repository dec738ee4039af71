"""Whether to think at all, and how: a request that names no policy is given one by the rules of a router.

Read `rules.py` first, then `features.py`, `difficulty.py`, `streaks.py`, `load.py`; `examples.py` and `learning.py` train what
`difficulty.py` reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from conclave.domain.routing.difficulty import Classifier, difficulty
from conclave.domain.routing.features import Seen
from conclave.domain.routing.load import Meter, Pressure
from conclave.domain.routing.rules import Router, Rule, Told, spoken_for
from conclave.domain.routing.streaks import Scope, Streak, Streaks

__all__ = ["Choice", "Classifier", "Meter", "Pressure", "Router", "Rule", "Streaks", "route"]

_MAX_LABEL_CHARS = 256
_MAX_REASONS = 10  # of a plan's sixteen: others have reasons too


@dataclass(frozen=True, slots=True)
class Choice:
    """The policy that a rule gives, None where no rule holds; and why, as it is stored with the plan."""

    policy: str | None
    rule: str | None
    reasons: Mapping[str, str] = field(default_factory=dict)


def route(
    router: Router,
    question: str,
    tags: Mapping[str, str],
    *,
    tenant: str,
    at: str,
    classifier: Classifier | None,
    pressure: Pressure,
    streaks: Streaks,
) -> Choice:
    """The choice of a router for a request at `at` in the log. Its switches count the question, once."""
    seen = Seen(question)
    is_asked = classifier is not None and any(rule.needs_difficulty for rule in router.rules)
    how_hard = difficulty(classifier, seen) if classifier is not None and is_asked else None
    told = Told(dict(tags), tenant, how_hard, pressure.value)
    spoken = {rule.name: spoken_for(rule, seen, told) for rule in router.rules}
    switches = _switched(router, spoken, (tenant, tags.get(router.scope, "")), at, streaks)
    reasons = {"router": f"{router.name}@{router.version} {router.digest}".rstrip()}
    if how_hard is not None:
        reasons["difficulty"] = f"{how_hard:.4f}"
    if pressure.value > 0.0:
        reasons["pressure"] = f"{pressure.value:.3f} (load {pressure.load:.3f}, budget {pressure.budget:.3f})"
    for rule in router.rules:
        switch, said = switches.get(rule.name), spoken[rule.name]
        if switch is not None and (switch.is_on or said is not None or switch.run):
            reasons[f"switch {rule.name}"] = _told(switch, rule)
        if switch.is_on if switch is not None else said is not None:
            because = "; ".join(said) if said else ("it is on" if switch else "it holds of every question")
            return Choice(rule.policy, rule.name, _labels(reasons | {"rule": rule.name, "because": because}))
    return Choice(None, None, _labels(reasons | {"rule": "none"}))


def _switched(
    router: Router, spoken: Mapping[str, list[str] | None], scope: Scope, at: str, streaks: Streaks
) -> dict[str, Streak]:
    """The switches of the rules that are some, with this question counted."""
    needed = {rule.name: rule.in_a_row for rule in router.rules if rule.in_a_row > 1}
    if not needed:
        return {}
    return streaks.count(scope, {name: spoken[name] is not None for name in needed}, needed, at)


def _told(switch: Streak, rule: Rule) -> str:
    state = "on" if switch.is_on else "off"
    return f"{state}, {switch.run} of {rule.in_a_row} in a row say otherwise" if switch.run else state


def _labels(reasons: Mapping[str, str]) -> dict[str, str]:
    """Reasons as an event takes them, each within its length: the last two, and the first of the others."""
    rows = list(reasons.items())
    kept = [*rows[:-2][: _MAX_REASONS - 2], *rows[-2:]]
    return {name[:_MAX_LABEL_CHARS]: text[:_MAX_LABEL_CHARS] for name, text in kept}
