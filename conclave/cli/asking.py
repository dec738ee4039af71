"""`conclave ask`: one question, watched while it is reasoned about."""

import asyncio
import time

import click
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from conclave.cli.endpoints import bootstrap_servers
from conclave.cli.progress import Progress, tally_text
from conclave.runtime.client import Client
from schemas.events import AnswerReached, ReasoningRequested, RequestFailed
from schemas.flow import Topic
from schemas.ids import new_request_id


@click.command()
@click.argument("question")
@click.option("--policy", help="Reasoning policy.  [default: the service's choice]")
@click.option("--max-samples", type=click.IntRange(1, 256), help="Paths per step at most.")
@click.option(
    "--deadline",
    "deadline_s",
    type=click.FloatRange(min=0, min_open=True, max=86_400),
    default=600.0,
    show_default=True,
    help="Seconds until the answer is worthless.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the answer event as JSON.")
def ask(question: str, policy: str | None, max_samples: int | None, deadline_s: float, as_json: bool) -> int:
    """Ask a QUESTION and watch it being answered. Exit status 0: answered, 1: not, 2: a question that can't be asked."""
    request = _request(question, policy, max_samples, deadline_s)
    result = asyncio.run(_ask(bootstrap_servers(), request, is_live=not as_json))
    if result is None:
        raise click.ClickException(
            f"no answer to {request.request_id} within {deadline_s + 30:.0f} s: is every service ready? (conclave check)"
        )
    if as_json:
        click.echo(msgspec.json.encode(result))
    return 0 if isinstance(result, AnswerReached) else 1


def _request(question: str, policy: str | None, max_samples: int | None, deadline_s: float) -> ReasoningRequested:
    fields = {"question": question, "policy": policy, "max_samples": max_samples, "deadline_s": deadline_s}
    try:
        return msgspec.convert({**fields, "request_id": new_request_id()}, ReasoningRequested)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from None


async def _ask(servers: str, request: ReasoningRequested, *, is_live: bool) -> AnswerReached | RequestFailed | None:
    progress = Progress(str(request.request_id))
    console = Console(highlight=False)
    topics = (Topic.STEPS, Topic.PATHS, Topic.ANSWERS)
    async with Client(servers) as client, client.follow(*topics) as events:
        started = time.monotonic()
        await client.publish(request)
        # On a terminal only: what is piped gets the answer and nothing else.
        with (
            Live(console=console, transient=True, refresh_per_second=8)
            if is_live and console.is_terminal
            else _Still() as live
        ):
            try:
                async with asyncio.timeout(request.deadline_s + 30):
                    async for _, event in events:
                        if progress.hear(event):
                            live.update(_view(progress, time.monotonic() - started))
                        if progress.result is not None:
                            break
            except TimeoutError:
                return None
    if is_live and progress.result is not None:
        _print(console, progress, progress.result)
    return progress.result


class _Still:
    """Stands where a live display would, and shows nothing."""

    def __enter__(self) -> "_Still":
        return self

    def __exit__(self, *exc: object) -> None:
        return

    def update(self, view: object) -> None:
        """Shows nothing."""


def _view(progress: Progress, elapsed_s: float) -> Group:
    plan = progress.plan
    head = f"{elapsed_s:5.1f} s  " + (
        f"{plan.route.value}, {len(plan.steps)} step(s), policy {plan.policy.name}" if plan else "asked"
    )
    table = Table.grid(padding=(0, 2))
    table.add_row(
        "paths",
        f"{progress.num_paths} of {progress.launched or '?'} launched"
        + (f", {progress.num_failed} failed" if progress.num_failed else ""),
    )
    table.add_row("tally", tally_text(progress.votes))
    return Group(Text(head), table)


def _print(console: Console, progress: Progress, result: AnswerReached | RequestFailed) -> None:
    if isinstance(result, RequestFailed):
        console.print(Text(f"no answer: {result.failure.value}: {result.message}"))
        console.print(Text(f"request    {result.request_id}"))
        return
    console.print(Text(result.answer, style="bold"))
    votes = tally_text({row.answer: row.votes for row in result.tally})
    mark = "  (a tie)" if result.outcome.value == "tie" else ""
    console.print(Text(f"confidence {result.confidence:.3f}, margin {result.margin:.2f}{mark}"))
    console.print(Text(f"votes      {votes}"))
    console.print(
        Text(
            f"cost       {result.num_paths} paths, {result.tokens_in} + {result.tokens_out} tokens, "
            f"{result.elapsed_ms:.0f} ms, policy {result.policy}"
        )
    )
    console.print(Text(f"request    {result.request_id}"))
