"""`conclave replay --stored --since …`: what the record's requests would have come to under another policy or other weights."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

from conclave.cli.endpoints import postgres_dsn
from conclave.cli.output import print_rows
from conclave.cli.policies import load_policies
from conclave.domain.counterfactual.again import RecordedRequest, Replayed, Unknown, replayed, with_weights
from conclave.domain.counterfactual.dealing import dealt
from conclave.domain.counterfactual.worth import Worth, worth
from conclave.domain.statistics.estimating import Estimate, TooFew
from conclave.policies import PolicySet
from conclave.store.learning import Learning
from conclave.store.stored_requests import stored_requests
from schemas.events import ExperimentChanged, WeightsPublished
from schemas.values import Policy

_SHOWN_CHARS = 60


@dataclass(frozen=True, slots=True)
class Asked:
    """Which requests are thought about again, and how."""

    since: datetime
    latest: int
    policy: str | None  # by which; None: each by its own
    weights: str | None  # whose votes they are weighed by, or by which they are dealt out; None: as they were
    served_by: str | None


def run(asked: Asked, *, num_listed: int, as_json: bool) -> None:
    """Thinks the requests through again and prints what that comes to. Raises: click.ClickException."""
    policy_of, run = _policy_of(asked)
    wanted = stored_requests(postgres_dsn(), since=asked.since, limit=asked.latest, served_by=asked.served_by, run=run)
    found = asyncio.run(wanted)
    if not found:
        raise click.ClickException("the record has no such request")
    replays = [replayed(each, policy_of(each)) for each in found]
    if as_json:
        click.echo(json.dumps(document(replays), ensure_ascii=False))
        return
    for line in told(replays):
        click.echo(line)
    changed = _changed(replays)
    if changed:
        columns = ("request", "question", "served", "would be", "reward", "right")
        print_rows(columns, [_row(each) for each in changed[:num_listed]])
    if len(changed) > num_listed:
        click.echo(f"and {len(changed) - num_listed} more: --list {len(changed)}")


PolicyOf = Callable[[RecordedRequest], Policy]


def _policy_of(asked: Asked) -> tuple[PolicyOf, tuple[str, int] | None]:
    """By which policy a request is thought about again, and of which run of an experiment requests are, if of one only.

    Raises: click.ClickException for a policy or weights that are not there.
    """
    found, problems = load_policies(None)
    if problems:
        raise click.ClickException("\n".join(map(str, problems)))
    if asked.weights is not None and found.find(asked.weights) is None:
        allocation = asyncio.run(_allocation(asked.weights))
        if allocation is not None and asked.policy is None:
            return _dealt(*allocation, found)
    for option, name in (("--policy", asked.policy), ("--weights", asked.weights)):
        if name is not None and found.find(name) is None:
            raise click.UsageError(f"{option}: expected one of {', '.join(found.names)}, or NAME@VERSION, got {name}")
    policy = found.find(asked.policy) if asked.policy else None
    weights = found.find(asked.weights) if asked.weights else None

    def policy_of(request: RecordedRequest) -> Policy:
        chosen = policy or request.policy
        return chosen if weights is None else with_weights(chosen, weights)

    return policy_of, None


async def _allocation(name: str) -> tuple[ExperimentChanged, WeightsPublished] | None:
    """The version of an experiment's weights that is named so, with what it is a version of; None where there is none."""
    experiment, _, version = name.partition("@")
    learning = Learning(postgres_dsn())
    try:
        versions = await learning.versions(experiment)
        weights = next((each for each in versions if str(each.version) == version), None)
        changes = await learning.changes(experiment) if weights is not None else []
    finally:
        await learning.close()
    of_run = [each for each in changes if weights is not None and each.revision == weights.revision]
    return (of_run[-1], weights) if of_run and weights is not None else None


def _dealt(
    change: ExperimentChanged, weights: WeightsPublished, policies: PolicySet
) -> tuple[PolicyOf, tuple[str, int]]:
    try:
        return dealt(change, weights, policies.find), (change.experiment, change.revision)
    except LookupError as error:
        raise click.ClickException(f"--weights: {error.args[0]}") from None


def told(replays: Sequence[Replayed]) -> list[str]:
    """What it comes to, a line each: what is known, what it costs, what it is worth."""
    known = [each for each in replays if each.unknown is None]
    lines = [f"{len(replays)} requests: {len(known)} known, {len(_changed(replays))} of them with another answer"]
    lines += [f"  not known of {num}: it takes {why}" for why, num in _unknown(replays).items()]
    if known:
        samples, tokens = _costs(known)
        lines.append(f"samples counted: {_saved(*samples)}; tokens generated for them: {_saved(*tokens)}")
    try:
        return lines + _worth_told(worth(replays))
    except TooFew as error:
        return [*lines, f"worth: not known, by {error}"]


def document(replays: Sequence[Replayed]) -> dict[str, Any]:
    """The same as JSON."""
    known = [each for each in replays if each.unknown is None]
    samples, tokens = _costs(known)
    try:
        value, refused = _worth_document(worth(replays)), None
    except TooFew as error:
        value, refused = None, str(error)
    return {
        "requests": len(replays),
        "known": len(known),
        "unknown": {why.name.lower(): num for why, num in _unknown(replays).items()},
        "samples": dict(zip(("served", "would_be"), samples, strict=True)),
        "tokens_out": dict(zip(("served", "would_be"), tokens, strict=True)),
        "worth": value,
        "worth_refused": refused,
        "changed": [
            {
                "request_id": each.request.request_id,
                "served": each.request.answer,
                "would_be": each.answer,
                "reward": each.request.reward,
                "right_answer": each.request.right_answer,
            }
            for each in _changed(replays)
        ],
    }


def _changed(replays: Sequence[Replayed]) -> list[Replayed]:
    return [each for each in replays if each.unknown is None and not each.is_same]


def _unknown(replays: Sequence[Replayed]) -> dict[Unknown, int]:
    counts = Counter(each.unknown for each in replays)
    return {why: counts[why] for why in Unknown if counts[why]}


def _costs(known: Sequence[Replayed]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Samples and tokens, as served and as they would be."""
    samples = (sum(each.request.num_samples for each in known), sum(each.num_samples for each in known))
    tokens = (sum(each.request.tokens_out for each in known), sum(each.tokens_out for each in known))
    return samples, tokens


def _saved(served: int, would_be: int) -> str:
    change = f" ({would_be / served - 1:+.1%})" if served else ""
    return f"{served:,} → {would_be:,}{change}"


def _worth_told(found: Worth) -> list[str]:
    return [
        f"worth, by {found.num_judged} judged requests (an effective {found.served.effective:.0f}): "
        f"{_estimate(found.served)} as served, {_between(found.least, found.most, 0.0)} instead",
        f"  change: {_between(found.least_change, found.most_change, -1.0)}; "
        f"better for certain: {found.gained}, worse: {found.lost}, nobody knows: {found.num_open}",
    ]


def _estimate(found: Estimate) -> str:
    low, high = _clipped(found.interval, 0.0)
    return f"{found.value:.3f} [{low:.3f}, {high:.3f}]"


def _between(least: Estimate, most: Estimate, bottom: float) -> str:
    """Two ends, and the interval that holds both of theirs."""
    low, high = _clipped((least.interval[0], most.interval[1]), bottom)
    form = ".3f" if bottom == 0.0 else "+.3f"
    value = f"{least.value:{form}}" if least == most else f"{least.value:{form}} … {most.value:{form}}"
    return f"{value} [{low:{form}}, {high:{form}}]"


def _clipped(interval: tuple[float, float], bottom: float) -> tuple[float, float]:
    return max(bottom, interval[0]), min(1.0, interval[1])


def _worth_document(found: Worth) -> dict[str, Any]:
    def ends(least: Estimate, most: Estimate, bottom: float) -> dict[str, float]:
        low, high = _clipped((least.interval[0], most.interval[1]), bottom)
        return {"least": least.value, "most": most.value, "low": low, "high": high}

    return {
        "judged": found.num_judged,
        "effective": found.served.effective,
        "gained": found.gained,
        "lost": found.lost,
        "open": found.num_open,
        "served": ends(found.served, found.served, 0.0),
        "would_be": ends(found.least, found.most, 0.0),
        "change": ends(found.least_change, found.most_change, -1.0),
    }


def _row(replay: Replayed) -> tuple[str, ...]:
    request = replay.request
    reward = "" if request.reward is None else f"{request.reward:g}"
    texts = (request.question, request.answer or "none", replay.answer or "none")
    question, served, would_be = (
        text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…" for text in texts
    )
    return request.request_id, question, served, would_be, reward, request.right_answer or ""
