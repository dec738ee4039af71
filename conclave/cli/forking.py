"""`conclave fork`: a recorded request run again from one of its steps, and what that changes."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from conclave.cli.amounts import Amount
from conclave.cli.comparing import Way, ended, print_ways, request_for, ways_of
from conclave.cli.endpoints import brokers, postgres_dsn
from conclave.cli.output import in_one_line
from conclave.domain.equivalence import are_same
from schemas.events import AnswerReached
from schemas.ids import is_request_id

_MAX_TALLY_ROWS = 8  # that a kept step takes along


@click.command()
@click.argument("request_id", metavar="REQUEST")
@click.option(
    "--from-step",
    type=click.IntRange(min=0, max=63),
    default=0,
    show_default=True,
    help="The first step that is thought anew.",
)
@click.option(
    "--policy", required=True, help="The policy that it goes on by; it needs the asks of the steps that are kept."
)
@click.option("--deadline", "deadline_s", type=Amount(min=1, max=86_400), default=600.0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Both ways, as a JSON array.")
def fork(request_id: str, from_step: int, policy: str, deadline_s: float, as_json: bool) -> int:
    """Run a recorded REQUEST again from a step on, by another policy or the same, and show what changed.

    The steps before are kept as they were decided, and cost nothing. Exit status 1 when the fork has no answer.
    """
    if not is_request_id(request_id):
        raise click.UsageError(f"REQUEST: expected a UUIDv7 in lower case, got {request_id!r}")
    from conclave.store.queries import request_trace

    found = asyncio.run(request_trace(postgres_dsn(), request_id))
    if not found["request"] or not found["request"][0]["question"]:
        raise click.ClickException(f"nothing is recorded of {request_id} (yet)")
    kept = kept_steps(found["steps"], from_step)
    question = str(found["request"][0]["question"])
    forked = {"request_id": request_id, "kept": kept}
    request = request_for(question, policy=policy, deadline_s=deadline_s, fork=forked)
    outcome = asyncio.run(ended(brokers(), [request]))
    (new,) = ways_of([request], outcome.ends, outcome.policies)
    old = recorded_way(found["request"][0], found["steps"])
    if as_json:
        click.echo(json.dumps([asdict(old), asdict(new)], ensure_ascii=False))
    else:
        print_ways([old, new])
        end = outcome.ends.get(str(request.request_id))
        for line in changes(found["steps"], end if isinstance(end, AnswerReached) else None, len(kept)):
            click.echo(in_one_line(line))
    return 0 if new.answer is not None else 1


def kept_steps(steps: Sequence[Mapping[str, Any]], from_step: int) -> list[dict[str, Any]]:
    """The recorded steps before `from_step`, as a fork keeps them. Raises: click.UsageError when one was not decided."""
    if from_step > len(steps):
        raise click.UsageError(f"--from-step: the request has {len(steps)} steps")
    return [_kept(step) for step in steps[:from_step]]


def _kept(step: Mapping[str, Any]) -> dict[str, Any]:
    if step["outcome"] is None:
        raise click.UsageError(f"--from-step: step {step['step_index']} was never decided")
    return {
        "step": {
            "index": step["step_index"],
            "ask": step["ask"],
            "fields": _json(step["fields"]),
            "mark": step["mark"],
            "depends_on": list(step["depends_on"]),
            "why": step["why"] or "",
        },
        "outcome": step["outcome"],
        "answer": step["answer"],
        "confidence": step["confidence"],
        "margin": step["margin"],
        "tally": list(_json(step["tally"] or "[]"))[:_MAX_TALLY_ROWS],
    }


def recorded_way(request: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> Way:
    """What the recorded request came to."""
    return Way(
        policy=f"{request['policy']} (recorded)",
        answer=request["answer"],
        is_same=None if request["answer"] is None else True,
        confidence=request["confidence"],
        steps=len(steps),
        paths=request["num_paths"] or 0,
        tokens_in=request["tokens_in"] or 0,
        tokens_out=request["tokens_out"] or 0,
        dollars=None,
        seconds=round((request["elapsed_ms"] or 0.0) / 1000, 3),
        ended_by=request["failure"] or request["ended_by"] or "not ended",
        request=str(request["request_id"]),
    )


def changes(steps: Sequence[Mapping[str, Any]], end: AnswerReached | None, num_kept: int) -> list[str]:
    """What became of each step, in words: kept, the same again, other, new, or not asked any more."""
    after = {step.step_index: step for step in end.steps} if end is not None else {}
    before = {int(step["step_index"]): step for step in steps}
    lines = []
    for index in sorted(before.keys() | after.keys()):
        old, new = before.get(index), after.get(index)
        name = (new.mark if new is not None else str(old["mark"] if old else "")) or f"step {index}"
        then = (old["answer"] or "no answer") if old is not None else None
        now = (new.answer or "no answer") if new is not None else None
        if index < num_kept:
            lines.append(f"{name}: kept: {then}")
        elif then is None:
            lines.append(f"{name}: new: {now}")
        elif now is None:
            lines.append(f"{name}: not asked any more; it was {then}")
        else:
            is_same = then == now or are_same(then, now)
            lines.append(f"{name}: {now} again" if is_same else f"{name}: {then} became {now}")
    return lines


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value
