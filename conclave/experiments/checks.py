"""An experiment against what it names: policies, metrics and the arms' shares."""

from collections.abc import Iterator

from conclave.domain import external
from conclave.domain.experiments.evidence import FIGURES, LIMITED, SAME_ANSWER
from conclave.experiments.reading import Read
from conclave.policies import PolicySet, Problem
from schemas.experiments import SHADOW, Experiment, Guardrail, Metric

_Found = tuple[str, str, str]  # field, expected, got


def problems_of(read: Read, policies: PolicySet) -> list[Problem]:
    """Everything that an experiment names and that is not there, or does not fit."""
    return [Problem(str(read.path), *found) for found in _experiment(read.experiment, policies)]


def _experiment(experiment: Experiment, policies: PolicySet) -> Iterator[_Found]:
    for name, arm in experiment.arms.items():
        if policies.find(arm.policy) is None:
            yield f"arms.{name}.policy", f"one of {', '.join(policies.names)}, or one with its version", arm.policy
        if name == SHADOW:
            yield f"arms.{name}", f"another name: {SHADOW} is what copies are called by", name
        if arm.policy_digest:
            yield f"arms.{name}.policy_digest", "no such field: it is computed", arm.policy_digest
    yield from _shadow(experiment, policies)
    if experiment.goal.name in FIGURES and experiment.goal.raters:
        yield "goal.raters", f"none for {experiment.goal.name}: nobody rates it", ", ".join(experiment.goal.raters)
    yield from _metric(experiment.goal, "goal")
    for place, guardrail in enumerate(experiment.guardrails):
        yield from _metric(guardrail.metric, f"guardrails[{place}].metric")


def _shadow(experiment: Experiment, policies: PolicySet) -> Iterator[_Found]:
    if experiment.shadow is None:
        return
    for place, check in enumerate(experiment.shadow.checks):
        yield from _check(check, f"shadow.checks[{place}]")
    for name, arm in experiment.arms.items():
        policy = policies.find(arm.policy)
        if name == experiment.control or policy is None:
            continue
        if not policy.prices:
            yield f"arms.{name}.policy", "one that names prices, as its shadow has a limit in dollars", arm.policy
        if any(external.is_external(ask) for ask in policy.asks.values()):
            yield f"arms.{name}.policy", "one without tools with an effect, as nobody is to notice a shadow", arm.policy


def _check(check: Guardrail, at: str) -> Iterator[_Found]:
    """Nobody judges what nobody sees: a shadow is measured by figures of its answers, and by what was served."""
    metric, known = check.metric, (SAME_ANSWER, *FIGURES)
    if metric.name not in known:
        yield f"{at}.metric.name", f"one of {', '.join(known)}", metric.name
    elif metric.raters or metric.missing is not None:
        yield f"{at}.metric", "neither raters nor missing", metric.name
    if metric.name == SAME_ANSWER and check.at_least is None:
        yield f"{at}.at_least", f"how often, for {SAME_ANSWER}", str(check.at_least)
    yield from _limit(metric, f"{at}.metric")


def _metric(metric: Metric, at: str) -> Iterator[_Found]:
    if metric.name == SAME_ANSWER:
        yield f"{at}.name", f"another metric: {SAME_ANSWER} is for checks of a shadow", metric.name
    yield from _limit(metric, at)


def _limit(metric: Metric, at: str) -> Iterator[_Found]:
    needs_limit = metric.name in LIMITED
    if needs_limit is (metric.limit is None):
        yield (
            f"{at}.limit",
            "milliseconds for within_ms, tokens for within_tokens, nothing otherwise",
            str(metric.limit),
        )
