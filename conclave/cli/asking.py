"""`conclave ask`: one question, watched while it is reasoned about."""

import asyncio
import time
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from typing import IO, Any

import click
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from conclave.cli.amounts import Amount, positive
from conclave.cli.endpoints import brokers, find
from conclave.cli.output import console, in_one_line, printable
from conclave.cli.progress import Progress, StepProgress, tally_text
from conclave.cli.readiness import showing_trouble
from conclave.domain.priorities import PRIORITIES
from conclave.domain.quality import QUALITIES
from conclave.domain.structured.answer_schema import accepted
from conclave.errors import Rejected
from conclave.runtime.brokers import Brokers
from conclave.runtime.client import Client
from schemas.events import AnswerReached, ReasoningRequested, RequestFailed
from schemas.flow import Topic
from schemas.ids import new_request_id
from schemas.values import EndReason, Outcome

_SHIPPED_MODEL = "reasoner"
_SHIPPED_LIMITS = "the small model that ships: arithmetic word problems only; it declines nearly all else"

_GRACE_S = 30.0  # beyond the deadline: the services tell of a missed one a little after it


@click.command()
@click.argument("question")
@click.option("--policy", help="Reasoning policy.  [default: the service's choice]")
@click.option(
    "--quality",
    type=click.Choice(list(QUALITIES)),
    help="When a vote has enough paths.  [default: as the policy has it]",
)
@click.option(
    "--priority",
    type=click.Choice(list(PRIORITIES)),
    default="interactive",
    show_default=True,
    help="Whose turn it is while the engine is full.",
)
@click.option("--max-samples", type=click.IntRange(1, 256), help="Paths per step at most.")
@click.option(
    "--max-age",
    "max_age_s",
    type=Amount(min=0, max=1e9),
    help="How old a remembered answer may be, in seconds; 0 thinks anew.  [default: the service's choice]",
)
@click.option("--schema", type=click.File("rb"), help="JSON Schema of an object that the answer has to fit.")
@click.option(
    "--deadline",
    "deadline_s",
    type=positive(86_400),
    default=600.0,
    show_default=True,
    help="Seconds until the answer is worthless.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the event that ended the request, as JSON.")
def ask(
    question: str,
    policy: str | None,
    quality: str | None,
    priority: str,
    max_samples: int | None,
    max_age_s: float | None,
    schema: IO[bytes] | None,
    deadline_s: float,
    as_json: bool,
) -> int:
    """Ask a QUESTION and watch it being answered. Exit status 0: answered, 1: not, 2: a question that can't be asked."""
    fields: dict[str, object] = {
        "policy": policy,
        "quality": quality,
        "priority": priority,
        "max_samples": max_samples,
        "max_age_s": max_age_s,
        "deadline_s": deadline_s,
    }
    if schema is not None:
        fields["answer_schema"] = _schema(schema)
    request = _request(question, fields)
    shown = console()
    progress = asyncio.run(_ask(brokers(), request, live_on=None if as_json else shown))
    result = progress.result
    if result is None:
        waited = f"{deadline_s + _GRACE_S:.0f} s"
        raise click.ClickException(f"no answer to {request.request_id} within {waited}: see `conclave check`")
    if as_json:
        click.echo(msgspec.json.encode(result))
        if _SHIPPED_MODEL in progress.models:
            click.echo(_models(progress.models), err=True)
    else:
        _print(shown, result, progress.models)
    return 0 if isinstance(result, AnswerReached) else 1


def _schema(file: IO[bytes]) -> object:
    """The JSON Schema in a file. Raises: click.UsageError for one that can't be taken."""
    try:
        document = msgspec.json.decode(file.read(), type=dict[str, Any])
        accepted(document)
    except (msgspec.MsgspecError, Rejected) as error:
        raise click.UsageError(f"{file.name}: {error}") from None
    return document


def _request(question: str, fields: Mapping[str, object]) -> ReasoningRequested:
    try:
        return msgspec.convert({**fields, "question": question, "request_id": new_request_id()}, ReasoningRequested)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from None


async def _ask(servers: Brokers, request: ReasoningRequested, *, live_on: Console | None) -> Progress:
    """What came of the request; without a result when nothing ended it in time."""
    progress = Progress(str(request.request_id))
    # On a terminal only: what is piped gets the answer and nothing else.
    is_live = live_on is not None and live_on.is_terminal
    display = Live(console=live_on, transient=True, refresh_per_second=8) if is_live else nullcontext()

    def show(line: str) -> None:
        if live_on is not None and is_live:
            live_on.print(Text(line))
        else:
            click.echo(line, err=True)

    async with Client(servers) as client, client.follow(Topic.STEPS, Topic.PATHS, Topic.ANSWERS) as events:
        started = time.monotonic()
        await client.publish(request)
        with display as live:
            try:
                async with asyncio.timeout(request.deadline_s + _GRACE_S), showing_trouble(find(), show):
                    async for _, event in events:
                        if progress.hear(event) and live is not None:
                            live.update(_view(progress, time.monotonic() - started))
                        if progress.result is not None:
                            break
            except TimeoutError:
                return progress
    return progress


def _view(progress: Progress, elapsed_s: float) -> Group:
    plan = progress.plan
    doing = f"{plan.policy.strategy}, policy {plan.policy.name}" if plan else "asked"
    table = Table.grid(padding=(0, 2))
    for index, step in sorted(progress.steps.items()):
        table.add_row(Text(f"step {index}"), Text(_paths(step)), Text(in_one_line(_standing(step))))
    return Group(Text(f"{elapsed_s:5.1f} s  {doing}"), table)


def _paths(step: StepProgress) -> str:
    failed = f", {step.num_failed} failed" if step.num_failed else ""
    return f"{step.num_paths} of {step.launched or '?'} paths{failed}"


def _standing(step: StepProgress) -> str:
    if step.verdict is None:
        return tally_text(step.votes())
    return f"decided: {step.verdict.answer} ({step.verdict.stop_reason}, {step.verdict.confidence:.3f})"


def _models(models: Collection[str]) -> str:
    """Which models answered, in one line, and what to expect of the one that ships."""
    names = ", ".join(f"{name} ({_SHIPPED_LIMITS})" if name == _SHIPPED_MODEL else name for name in sorted(models))
    return f"model      {in_one_line(names)}"


def _print(where: Console, result: AnswerReached | RequestFailed, models: Collection[str]) -> None:
    if isinstance(result, RequestFailed):
        where.print(Text(f"no answer  {result.failure.value}: {in_one_line(result.message)}"))
    else:
        cut = "" if result.ended_by == EndReason.DECIDED else f"  (ended by its {result.ended_by})"
        tie = "  (a tie)" if result.outcome is Outcome.TIE else ""
        votes = in_one_line(tally_text({row.answer: row.votes for row in result.tally}))
        where.print(Text(printable(result.answer), style="bold"))
        where.print(Text(f"confidence {result.confidence:.3f}, margin {result.margin:.2f}{tie}{cut}"))
        where.print(Text(f"votes      {votes}"))
        for each in result.fields:
            of = f"{each.name}: confidence {each.confidence:.3f}, {each.agreement:.0%} of the votes"
            where.print(Text(f"field      {printable(of)}"))
        if result.recalled_from is not None:
            where.print(Text(f"recalled   from {result.recalled_from}: no path was decoded"))
    tokens = f"{result.tokens_in} + {result.tokens_out} tokens"
    policy = f", policy {result.policy}" if isinstance(result, AnswerReached) else ""
    where.print(Text(f"cost       {result.num_paths} paths, {tokens}, {result.elapsed_ms:.0f} ms{policy}"))
    if models:
        where.print(Text(_models(models)))
    where.print(Text(f"request    {result.request_id}"))
