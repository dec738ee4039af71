"""`conclave calibrate`: what feedback says that paths' votes are worth, as a new version of a policy."""

import asyncio
import json
import os
import time
from pathlib import Path

import click
import msgspec
from msgspec.structs import replace

from conclave.cli.amounts import DAYS, Amount, positive
from conclave.cli.endpoints import postgres_dsn
from conclave.cli.policies import load_policies
from conclave.domain.vote_learning.abstaining import Bound, bound, with_quorum
from conclave.domain.vote_learning.judging import Learned, learned
from conclave.policies.writing import as_toml
from conclave.store.judged_votes import judged_votes
from schemas.values import Policy

_REFUSED = 3
_SHARE = Amount(0, 1, min_open=True, max_open=True)
_DAY_MS = 86_400_000


@click.command()
@click.argument("reference", metavar="POLICY[@VERSION]")
@click.option("--ask", default="whole", show_default=True, help="The kind of question whose votes learn.")
@click.option(
    "--days", default=30.0, show_default=True, type=positive(DAYS), help="Feedback on requests of so many days counts."
)
@click.option("--at-most-wrong", type=_SHARE, help="Share of the answers served.")
@click.option(
    "--risk",
    default=0.05,
    show_default=True,
    type=_SHARE,
    help="That the share of wrong answers is higher all the same.",
)
@click.option("--write", "folder", type=click.Path(path_type=Path, file_okay=False), help="Folder for the new version.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object.")
def calibrate(
    reference: str, ask: str, days: float, at_most_wrong: float | None, risk: float, folder: Path | None, as_json: bool
) -> int:
    """Learn from feedback what the votes of POLICY's paths and its confidence are worth.

    Half of the judged votes are learned from; the others are counted again with what was learned. Weights that do worse there
    are refused (exit status 3). With --write, those that do not are written as the policy's next version, to be compared
    with the present one by an experiment.

    With --at-most-wrong, a quorum is looked for instead: the lowest share of the votes at which answers are known to be wrong
    so rarely. Below it, there is no answer.
    """
    found, problems = load_policies(None)
    policy = found.find(reference)
    if problems or policy is None or ask not in policy.asks:
        told = "\n".join(map(str, problems)) or f"no policy {reference!r} with an ask {ask!r}"
        raise click.ClickException(told)
    since_ms = time.time_ns() // 1_000_000 - round(days * _DAY_MS)
    votes = asyncio.run(judged_votes(postgres_dsn(), policy_digest=policy.digest, ask=ask, since_ms=since_ms))
    if at_most_wrong is not None:
        limit = bound(policy.asks[ask], votes, at_most=at_most_wrong, risk=risk)
        told, accepted = (
            _bound_told(limit),
            None if limit.quorum is None else with_quorum(policy.asks[ask], limit.quorum, at_most_wrong),
        )
        shown: Learned | Bound = limit
        why = f"answers wrong at most {at_most_wrong:g} of the time, by {limit.num_judged} judged votes"
    else:
        result = learned(policy.asks[ask], votes)
        told, accepted, shown = _told(result), None if result.refused else result.ask, result
        why = f"votes weighed by what {result.num_learned} judged votes have taught"
    click.echo(json.dumps(msgspec.to_builtins(shown)) if as_json else told)
    if accepted is None:
        return _REFUSED
    if folder is not None:
        version = 1 + max(each.policy.version for each in found if each.policy.name == policy.name)
        next_version = replace(policy, version=version, asks={**policy.asks, ask: accepted})
        click.echo(str(_written(next_version, f"{policy.name}@{policy.version}: {why}.", folder)))
    return 0


def _written(policy: Policy, about: str, folder: Path) -> Path:
    """The file of a policy's new version."""
    path = folder / f"{policy.name}@{policy.version}.toml"
    if os.path.lexists(path):
        raise click.ClickException(f"{path} is there already")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(as_toml(policy, about))
    return path


def _bound_told(limit: Bound) -> str:
    if limit.quorum is None:
        return f"no quorum is known to keep wrong answers at {limit.at_most:.1%}, by {limit.num_judged} judged votes"
    return (
        f"quorum {limit.quorum:g}: of {limit.num_judged} judged votes {limit.share_served:.1%} would be answered, "
        f"{limit.num_wrong} of them wrong; at most {limit.at_most:.1%} are, at the level {1 - limit.risk:.0%}"
    )


def _told(result: Learned) -> str:
    lines = [
        f"learned from {result.num_learned} judged votes, judged by {result.num_judged} others; "
        f"paths of a question correlate by {result.correlation:.2f}",
        f"               {'ECE':>8} {'Brier':>8} {'log loss':>9}",
    ]
    fits = {
        "before": result.before,
        "after": result.after,
        "told before": result.told_before,
        "told after": result.told_after,
    }
    for name, fit in fits.items():
        lines.append(f"{name:<14} {fit.ece:8.4f} {fit.brier:8.4f} {fit.log_loss:9.4f}")
    lines.append(f"votes gained: {result.gained}, lost: {result.lost}")
    lines.append("weights: " + " ".join(f"{each:.2f}" for each in result.ask.vote_weights))
    lines.append("refused: " + result.refused if result.refused else "accepted")
    return "\n".join(lines)
