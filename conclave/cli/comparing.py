"""`conclave compare`: one question by several policies, side by side."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import click
import msgspec

from conclave.cli.amounts import Amount
from conclave.cli.endpoints import brokers, postgres_dsn
from conclave.cli.output import in_one_line, print_rows
from conclave.domain import budget
from conclave.domain.equivalence import are_same
from conclave.runtime.brokers import Brokers
from conclave.runtime.client import Client
from schemas.events import AnswerReached, PlanMade, ReasoningRequested, RequestFailed
from schemas.flow import Topic
from schemas.ids import is_request_id, new_request_id
from schemas.values import Policy

_GRACE_S = 30.0  # beyond the deadline: the services tell of a missed one a little after it
_SHOWN_CHARS = 48

End = AnswerReached | RequestFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What a question came to in one way."""

    policy: str
    answer: str | None
    is_same: bool | None  # as that of the first way that has one; None without an answer
    confidence: float | None
    steps: int
    paths: int
    tokens_in: int
    tokens_out: int
    dollars: float | None  # by the policy's dearest price; None where it has none
    seconds: float
    ended_by: str
    request: str


@click.command()
@click.argument("asked", metavar="REQUEST|QUESTION")
@click.option("--policy", "policies", required=True, help="Policies, separated by commas; each may have its @version.")
@click.option("--deadline", "deadline_s", type=Amount(min=1, max=86_400), default=600.0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def compare(asked: str, policies: str, deadline_s: float, as_json: bool) -> int:
    """Ask one question by several policies at once, and set what comes of it side by side.

    A REQUEST that is recorded lends its question. Exit status 1 when a way has no answer, 2 for what can't be asked.
    """
    names = [name.strip() for name in policies.split(",") if name.strip()]
    if not names:
        raise click.UsageError("--policy: expected one or more names, separated by commas")
    question = question_of(asked) if is_request_id(asked) else asked
    # What is compared is thought about, and not remembered.
    requests = [request_for(question, policy=name, deadline_s=deadline_s, max_age_s=0.0) for name in names]
    found = asyncio.run(ended(brokers(), requests))
    ways = ways_of(requests, found.ends, found.policies)
    if as_json:
        click.echo(json.dumps([asdict(way) for way in ways], ensure_ascii=False))
    else:
        print_ways(ways)
    return 0 if all(way.answer is not None for way in ways) else 1


@dataclass(frozen=True, slots=True)
class Found:
    """How requests ended, and by which policies they were thought about, by request."""

    ends: Mapping[str, End]
    policies: Mapping[str, Policy]


def question_of(request_id: str) -> str:
    """The question of a recorded request. Raises: click.ClickException when it is not recorded."""
    from conclave.store.queries import request_trace

    rows = asyncio.run(request_trace(postgres_dsn(), request_id))["request"]
    if not rows or not rows[0]["question"]:
        raise click.ClickException(f"nothing is recorded of {request_id} (yet)")
    return str(rows[0]["question"])


def request_for(question: str, **fields: object) -> ReasoningRequested:
    """A request that can be published. Raises: click.UsageError for what can't be asked."""
    try:
        return msgspec.convert({"question": question, "request_id": new_request_id(), **fields}, ReasoningRequested)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from None


async def ended(servers: Brokers, requests: Sequence[ReasoningRequested]) -> Found:
    """Publishes requests and waits for their ends; those that do not come within the deadline are not there."""
    wanted = {str(each.request_id) for each in requests}
    ends: dict[str, End] = {}
    policies: dict[str, Policy] = {}
    limit_s = max(each.deadline_s for each in requests) + _GRACE_S
    async with Client(servers) as client, client.follow(Topic.STEPS, Topic.ANSWERS) as events:
        await client.publish_many(requests)
        try:
            async with asyncio.timeout(limit_s):
                async for _, event in events:
                    if isinstance(event, PlanMade) and event.request_id in wanted:
                        policies[event.request_id] = event.policy
                    if isinstance(event, AnswerReached | RequestFailed) and event.request_id in wanted:
                        ends[event.request_id] = event
                    if ends.keys() == wanted:
                        break
        except TimeoutError:
            pass
    return Found(ends, policies)


def ways_of(
    requests: Sequence[ReasoningRequested], ends: Mapping[str, End], policies: Mapping[str, Policy]
) -> list[Way]:
    """What each request came to, in their order."""
    answers = [end.answer for each in requests if isinstance(end := ends.get(str(each.request_id)), AnswerReached)]
    first = next(iter(answers), None)
    return [_way(each, ends.get(str(each.request_id)), policies.get(str(each.request_id)), first) for each in requests]


def _way(request: ReasoningRequested, end: End | None, policy: Policy | None, first: str | None) -> Way:
    answer = end.answer if isinstance(end, AnswerReached) else None
    tokens_in, tokens_out = (end.tokens_in, end.tokens_out) if end else (0, 0)
    dollars = None
    if policy is not None and policy.prices:
        dollars = budget.cost(budget.dearest(policy), tokens_in, tokens_out)
    return Way(
        policy=str(request.policy),
        answer=answer,
        is_same=None if answer is None or first is None else answer == first or are_same(answer, first),
        confidence=end.confidence if isinstance(end, AnswerReached) else None,
        steps=len(end.steps) if isinstance(end, AnswerReached) else 0,
        paths=end.num_paths if end else 0,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        dollars=dollars,
        seconds=round(end.elapsed_ms / 1000, 3) if end else 0.0,
        ended_by=_ended_by(end),
        request=str(request.request_id),
    )


def _ended_by(end: End | None) -> str:
    if end is None:
        return "nothing came"
    return f"{end.failure.value}: {end.message}" if isinstance(end, RequestFailed) else end.ended_by


def print_ways(ways: Sequence[Way]) -> None:
    """The ways as a table; an answer that differs from the first is marked."""
    columns = (
        "policy",
        "answer",
        "confidence",
        "steps",
        "paths",
        "tokens",
        "dollars",
        "seconds",
        "ended by",
        "request",
    )
    print_rows(columns, [_cells(way) for way in ways])


def _cells(way: Way) -> tuple[str, ...]:
    answer = "no answer" if way.answer is None else in_one_line(way.answer)
    shown = answer if len(answer) <= _SHOWN_CHARS else answer[: _SHOWN_CHARS - 1] + "…"
    return (
        way.policy,
        f"{shown}{' (differs)' if way.is_same is False else ''}",
        "" if way.confidence is None else f"{way.confidence:.3f}",
        str(way.steps),
        str(way.paths),
        f"{way.tokens_in} + {way.tokens_out}",
        "" if way.dollars is None else f"{way.dollars:.6f}",
        f"{way.seconds:.1f}",
        in_one_line(way.ended_by)[:_SHOWN_CHARS],
        way.request,
    )
