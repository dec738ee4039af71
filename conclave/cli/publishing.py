"""`conclave publish`: a file of questions, all answers waited for."""

import asyncio
import codecs
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from conclave.cli.endpoints import brokers, find
from conclave.cli.output import in_one_line
from conclave.cli.progress import tally_text
from conclave.cli.readiness import Shown, showing_trouble
from conclave.domain.equivalence import are_same
from conclave.domain.priorities import PRIORITIES
from conclave.runtime.brokers import Brokers
from conclave.runtime.client import Client
from schemas import producers
from schemas.events import AnswerReached, Event, ReasoningRequested, RequestFailed
from schemas.flow import Topic
from schemas.ids import new_request_id

# What a question set may say of a question besides the request itself.
_EXTRA = ("id", "answer", "difficulty", "family")
_BATCH = 200
_SILENCE_S = 120.0
_SHOWN_DEFECTS = 10

Results = Mapping[str, AnswerReached | RequestFailed]  # by request id


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the file: the request, and what the file says of it."""

    number: int
    request: ReasoningRequested
    label: str
    gold: str | None

    def is_right(self, result: AnswerReached | RequestFailed) -> bool:
        """True when the answer is the one that the file gives, written in whatever way."""
        if self.gold is None or not isinstance(result, AnswerReached):
            return False
        return are_same(result.answer, self.gold)


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--policy", help="For lines that name none.")
@click.option("--priority", type=click.Choice(list(PRIORITIES)), help="For lines that name none.  [default: standard]")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for the answers.")
@click.option("--tally/--no-tally", default=True, show_default=True, help="Print each question's tally.")
@click.option("--json", "as_json", is_flag=True, help="Print every answer as a line of JSON instead, then the summary.")
def publish(file: IO[bytes], policy: str | None, priority: str | None, wait: bool, tally: bool, as_json: bool) -> int:
    """Publish the requests of FILE (JSON lines, `-` for standard input) and wait until all are answered.

    Exit status 0: all answered; 1: some failed; 2: a line that is no request (then nothing is published).
    A line's `id`, `answer`, `difficulty` and `family` are not published; answers are compared with `answer`.
    """
    lines = _read(file, {"policy": policy, "priority": priority})
    results, elapsed_s = asyncio.run(_publish(brokers(), lines, wait=wait))
    if not wait:
        click.echo(json.dumps({"published": len(lines)}) if as_json else f"published {len(lines)} requests")
        return 0
    for line in lines:
        result = results[str(line.request.request_id)]
        if as_json:
            click.echo(_json(line, result))
        elif tally:
            click.echo(_row(line, result))
    summary = _summary(lines, results, elapsed_s)
    click.echo(json.dumps(summary) if as_json else _sentence(summary))
    return 0 if summary["failed"] == 0 else 1


def _read(file: IO[bytes], otherwise: Mapping[str, str | None]) -> list[Line]:
    """Every line as a request; `otherwise` holds for what it does not say.

    Raises: click.UsageError naming each bad line and field.
    """
    lines, wrong = [], []
    for number, raw in enumerate(file, 1):
        if number == 1 and raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise click.UsageError("nothing was published: the file is in UTF-16; save it as UTF-8")
        if not raw.strip():
            continue
        try:
            lines.append(_line(number, raw, otherwise))
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            wrong.append(f"line {number}: {in_one_line(str(error))}")
    if wrong:
        more = [f"… and {len(wrong) - _SHOWN_DEFECTS} more"] if len(wrong) > _SHOWN_DEFECTS else []
        raise click.UsageError("\n".join(["nothing was published:", *wrong[:_SHOWN_DEFECTS], *more]))
    return lines


def _line(number: int, raw: bytes, otherwise: Mapping[str, str | None]) -> Line:
    data = producers.parse(raw)
    if not isinstance(data, dict):
        raise ValueError("expected a JSON object with at least `question` - at `$`")
    extra: dict[str, Any] = {name: data.pop(name) for name in _EXTRA if name in data}
    if data.get("idempotency_key") is not None and data.get("request_id") is None:
        # The id would come from the log, and the answer could not be told from others.
        raise ValueError("Expected `request_id`, by which the answer is waited for - at `$.idempotency_key`")
    if data.get("request_id") is None:
        data["request_id"] = new_request_id()
    data |= {name: value for name, value in otherwise.items() if data.get(name) is None}
    gold = extra.get("answer")
    request = producers.convert(data, ReasoningRequested)
    return Line(number, request, str(extra.get("id", number)), None if gold is None else str(gold))


async def _publish(servers: Brokers, lines: Sequence[Line], *, wait: bool) -> tuple[Results, float]:
    """What ended each request, and the seconds that it took. Raises: click.ClickException when all has gone silent."""
    clock = asyncio.get_running_loop()
    started = clock.time()
    wanted = {str(line.request.request_id) for line in lines}
    results: dict[str, AnswerReached | RequestFailed] = {}
    # Paths are followed too, as a sign of life: one hard question may take longer than the silence that is put up with.
    async with Client(servers) as client, client.follow(Topic.ANSWERS, Topic.PATHS) as events:
        for begin in range(0, len(lines), _BATCH):
            await client.publish_many([line.request for line in lines[begin : begin + _BATCH]])
        with _bar() as bar:
            task = bar.add_task("answered", total=len(wanted))
            async with showing_trouble(find(), lambda line: bar.console.print(Text(line))) as trouble:
                while wait and len(results) < len(wanted):
                    event = await _next(events, trouble, num_missing=len(wanted) - len(results))
                    if isinstance(event, AnswerReached | RequestFailed) and event.request_id in wanted:
                        results[event.request_id] = event
                        bar.update(task, completed=len(results))
    return results, clock.time() - started


async def _next(events: AsyncIterator[tuple[str, Event]], trouble: Shown, *, num_missing: int) -> Event:
    """The next event. Raises: click.ClickException after a long silence that nothing explains."""
    coming = asyncio.ensure_future(anext(events))
    try:
        while not (await asyncio.wait({coming}, timeout=_SILENCE_S))[0]:
            if trouble.reason is None:
                raise _silence(num_missing)
            # Said already; what waits is answered after all, or fails at its deadline.
        return coming.result()[1]
    finally:
        coming.cancel()


def _silence(num_missing: int) -> click.ClickException:
    heard = f"no path and no answer for {_SILENCE_S:.0f} s"
    remedy = "see `conclave check`; a request id that was answered before is not answered again"
    return click.ClickException(f"{num_missing} requests unanswered, and {heard}: {remedy}")


def _bar() -> Bar:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Bar(*columns, console=console, disable=not console.is_terminal, transient=True)


def _json(line: Line, result: AnswerReached | RequestFailed) -> str:
    row = {"line": line.number, "id": line.label, "gold": line.gold, "is_right": None, "result": None}
    row["is_right"] = None if line.gold is None else line.is_right(result)
    row["result"] = msgspec.to_builtins(result)
    return json.dumps(row)


def _row(line: Line, result: AnswerReached | RequestFailed) -> str:
    label = in_one_line(line.label)
    if isinstance(result, RequestFailed):
        return f"{label:>12}  failed: {result.failure.value}: {in_one_line(result.message)}"
    votes = in_one_line(tally_text({row.answer: row.votes for row in result.tally}))
    mark = "" if line.gold is None else "right" if line.is_right(result) else f"wrong, {in_one_line(line.gold)}"
    return f"{label:>12}  {in_one_line(result.answer):>8}  {result.confidence:.2f}  {mark:<12}  {votes}"


def _summary(lines: Sequence[Line], results: Results, elapsed_s: float) -> dict[str, Any]:
    """What the lines came to. A request that several lines name counts for each, its cost once."""
    of_lines = [(line, results[str(line.request.request_id)]) for line in lines]
    answers = [each for each in results.values() if isinstance(each, AnswerReached)]
    num_answered = sum(isinstance(result, AnswerReached) for _, result in of_lines)
    num_gold = sum(line.gold is not None for line in lines)
    return {
        "published": len(lines),
        "answered": num_answered,
        "failed": len(lines) - num_answered,
        "with_gold": num_gold,
        "right": sum(line.is_right(result) for line, result in of_lines) if num_gold else None,
        "paths": sum(each.num_paths for each in answers),
        "tokens_out": sum(each.tokens_out for each in answers),
        "seconds": round(elapsed_s, 1),
    }


def _sentence(summary: Mapping[str, Any]) -> str:
    right, num_gold = summary["right"], summary["with_gold"]
    accuracy = f", {right} of {num_gold} right ({right / num_gold:.0%})" if num_gold else ""
    return (
        f"{summary['answered']} answered, {summary['failed']} failed{accuracy}; "
        f"{summary['paths']} paths, {summary['tokens_out']} tokens, {summary['seconds']} s"
    )
