"""`conclave publish`: a file of questions, all answers waited for."""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from conclave.cli.endpoints import bootstrap_servers
from conclave.cli.progress import tally_text
from conclave.runtime.client import Client
from schemas.events import AnswerReached, ReasoningRequested, RequestFailed
from schemas.flow import Topic
from schemas.ids import new_request_id

# What a question set may say of a question besides the request itself.
_EXTRA = ("id", "answer", "difficulty", "family")
_BATCH = 200
_SILENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the file: the request, and what the file says of it."""

    number: int
    request: ReasoningRequested
    label: str
    gold: str | None


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--policy", help="For lines that name none.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for the answers.")
@click.option("--tally/--no-tally", default=True, show_default=True, help="Print each question's tally.")
@click.option("--json", "as_json", is_flag=True, help="Print every answer as a line of JSON instead, then the summary.")
def publish(file: IO[bytes], policy: str | None, wait: bool, tally: bool, as_json: bool) -> int:
    """Publish the requests of FILE (JSON lines, `-` for standard input) and wait until all are answered.

    Exit status 0: all answered; 1: some failed; 2: a line that is no request (then nothing is published).
    A line's `id`, `answer`, `difficulty` and `family` are not published; answers are compared with `answer`.
    """
    lines = _read(file, policy)
    servers = bootstrap_servers()
    started = time.monotonic()
    results = asyncio.run(_publish(servers, lines, wait=wait))
    if not wait:
        click.echo(f"published {len(lines)} requests")
        return 0
    for line in lines:
        _print(line, results.get(str(line.request.request_id)), tally=tally, as_json=as_json)
    return _summary(lines, results, time.monotonic() - started, as_json=as_json)


def _read(file: IO[bytes], policy: str | None) -> list[Line]:
    """Every line as a request. Raises: click.UsageError naming each bad line and field."""
    lines, wrong = [], []
    for number, raw in enumerate(file, 1):
        if not raw.strip():
            continue
        try:
            lines.append(_line(number, raw, policy))
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            wrong.append(f"line {number}: {error}")
    if wrong:
        shown = wrong[:10] + ([f"… and {len(wrong) - 10} more"] if len(wrong) > 10 else [])
        raise click.UsageError("\n".join(["these lines are no requests:", *shown]))
    return lines


def _line(number: int, raw: bytes, policy: str | None) -> Line:
    data = msgspec.json.decode(raw)
    if not isinstance(data, dict):
        raise ValueError("expected a JSON object with at least `question`")
    extra = {name: data.pop(name) for name in _EXTRA if name in data}
    data.setdefault("request_id", new_request_id())
    if policy is not None:
        data.setdefault("policy", policy)
    gold = extra.get("answer")
    return Line(
        number,
        msgspec.convert(data, ReasoningRequested),
        str(extra.get("id", number)),
        None if gold is None else str(gold),
    )


async def _publish(servers: str, lines: Sequence[Line], *, wait: bool) -> dict[str, AnswerReached | RequestFailed]:
    wanted = {str(line.request.request_id) for line in lines}
    results: dict[str, AnswerReached | RequestFailed] = {}
    async with Client(servers) as client, client.follow(Topic.ANSWERS) as events:
        for begin in range(0, len(lines), _BATCH):
            await client.publish_many([line.request for line in lines[begin : begin + _BATCH]])
        if not wait:
            return results
        with _bar() as bar:
            task = bar.add_task("answered", total=len(wanted))
            while wanted - set(results):
                try:
                    async with asyncio.timeout(_SILENCE_S):
                        _, event = await anext(events)
                except TimeoutError:
                    missing = len(wanted) - len(results)
                    raise click.ClickException(
                        f"{missing} requests unanswered, and silence for {_SILENCE_S:.0f} s: see `conclave check`"
                    ) from None
                if isinstance(event, AnswerReached | RequestFailed) and event.request_id in wanted:
                    results[event.request_id] = event
                    bar.update(task, completed=len(results))
    return results


def _bar() -> Bar:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Bar(*columns, console=console, disable=not console.is_terminal)


def _print(line: Line, result: AnswerReached | RequestFailed | None, *, tally: bool, as_json: bool) -> None:
    if as_json:
        click.echo(
            json.dumps(
                {"line": line.number, "id": line.label, "gold": line.gold, "result": msgspec.to_builtins(result)}
            )
        )
    elif tally and isinstance(result, AnswerReached):
        votes = tally_text({row.answer: row.votes for row in result.tally})
        mark = "" if line.gold is None else ("right" if _is_right(line, result) else f"wrong, {line.gold}")
        click.echo(f"{line.label:>12}  {result.answer:>8}  {result.confidence:.2f}  {mark:<12}  {votes}")
    elif tally and isinstance(result, RequestFailed):
        click.echo(f"{line.label:>12}  failed: {result.failure.value}: {result.message}")


def _is_right(line: Line, result: AnswerReached | RequestFailed | None) -> bool:
    return isinstance(result, AnswerReached) and result.answer == line.gold


def _summary(
    lines: Sequence[Line], results: dict[str, AnswerReached | RequestFailed], elapsed_s: float, *, as_json: bool
) -> int:
    answers = [each for each in results.values() if isinstance(each, AnswerReached)]
    with_gold = [line for line in lines if line.gold is not None]
    num_right = sum(_is_right(line, results.get(str(line.request.request_id))) for line in with_gold)
    summary = {
        "published": len(lines),
        "answered": len(answers),
        "failed": len(lines) - len(answers),
        "right": num_right if with_gold else None,
        "paths": sum(each.num_paths for each in answers),
        "tokens_out": sum(each.tokens_out for each in answers),
        "seconds": round(elapsed_s, 1),
    }
    if as_json:
        click.echo(json.dumps(summary))
    else:
        accuracy = f", {num_right} of {len(with_gold)} right" if with_gold else ""
        click.echo(
            f"{summary['answered']} answered, {summary['failed']} failed{accuracy}; "
            f"{summary['paths']} paths, {summary['tokens_out']} tokens, {summary['seconds']} s"
        )
    sys.stdout.flush()
    return 0 if len(answers) == len(lines) else 1
