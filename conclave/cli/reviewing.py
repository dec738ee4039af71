"""`conclave review`: answers that experts should look at, taken one at a time; a verdict is feedback like any other."""

import asyncio
import getpass
import json
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import click

from conclave.cli.endpoints import brokers, postgres_dsn
from conclave.cli.output import in_one_line, print_rows, printable
from conclave.cli.since import since as since_of
from conclave.domain.statistics.agreement import Agreement, agreement
from conclave.runtime.client import Client
from conclave.store.reviews import Item, Reviews
from schemas import producers
from schemas.events import FeedbackGiven
from schemas.experiments import Rater
from schemas.ids import canonical_uuid, is_request_id

T = TypeVar("T")
_NOTHING_LEFT = 3
_SHOWN_CHARS = 70

_since = click.option(
    "--since", callback=since_of, metavar="TIME", help="Answers since then: 12h, 7d, 2026-11-01.  [default: 7d]"
)
_reviewers = click.option(
    "--reviewers",
    "num_reviewers",
    default=2,
    show_default=True,
    type=click.IntRange(1, 20),
    help="That each answer gets.",
)
_reviewer = click.option("--reviewer", default=getpass.getuser, show_default="the user", help="Who reviews.")
_as_json = click.option("--json", "as_json", is_flag=True, help="JSON.")


@click.group()
def review() -> None:
    """Answers that experts should look at: disliked, won by little, flipped on the way, or drawn at random."""


@review.command("list")
@_since
@_reviewers
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@_as_json
def list_all(since: datetime | None, num_reviewers: int, limit: int, as_json: bool) -> None:
    """List what is open, the latest first."""
    items = _asked(lambda of: of.open(since=_from(since), num_reviewers=num_reviewers, limit=limit))
    if as_json:
        click.echo(json.dumps([_document(each) for each in items], ensure_ascii=False))
        return
    rows = [
        (
            each.request_id,
            ", ".join(each.reasons),
            f"{each.num_reviews}/{num_reviewers}",
            _cut(each.question),
            _cut(each.answer),
        )
        for each in items
    ]
    print_rows(("request", "why", "reviews", "question", "answer"), rows)


@review.command()
@_since
@_reviewers
@_reviewer
@click.option("--lease", "lease_min", default=30, show_default=True, type=click.IntRange(1, 1440), help="Minutes.")
@_as_json
def claim(since: datetime | None, num_reviewers: int, reviewer: str, lease_min: int, as_json: bool) -> int:
    """Take the next answer, or show again what you have in hand. Nobody beyond --reviewers gets it meanwhile.

    Exit status 3 when nothing is left.
    """
    item = _asked(
        lambda of: of.claim(reviewer, since=_from(since), num_reviewers=num_reviewers, lease_s=60.0 * lease_min)
    )
    if item is None:
        click.echo("nothing is left to review", err=True)
        return _NOTHING_LEFT
    click.echo(json.dumps(_document(item), ensure_ascii=False) if as_json else "\n".join(_told(item, reviewer)))
    return 0


@review.command()
@click.argument("request_id")
@click.argument("verdict", type=click.Choice(["right", "wrong"]))
@click.option("--right-answer", help="What would have been right.")
@click.option("--comment")
@_reviewer
def verdict(request_id: str, verdict: str, right_answer: str | None, comment: str | None, reviewer: str) -> None:
    """Say that the answer of REQUEST_ID is right or wrong. Prints the id of the feedback that this is."""
    request_id, feedback_id = _id(request_id), uuid.uuid4().hex
    said = {"right_answer": right_answer, "comment": comment, "source": reviewer, "rater": Rater.EXPERT.value}
    document = {"request_id": request_id, "feedback_id": feedback_id, "reward": float(verdict == "right"), **said}
    try:
        event = producers.convert(document, FeedbackGiven)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    asyncio.run(_publish(event, feedback_id))
    _asked(lambda of: of.judged(reviewer, request_id))
    click.echo(feedback_id)


@review.command()
@click.argument("request_id")
@_reviewer
def skip(request_id: str, reviewer: str) -> None:
    """Give REQUEST_ID back to others: you are not asked about it for a week."""
    request_id = _id(request_id)
    _asked(lambda of: of.skipped(reviewer, request_id))
    click.echo(f"{request_id}: skipped")


@review.command("agreement")
@_since
@_as_json
def agreement_(since: datetime | None, as_json: bool) -> None:
    """How much experts agree on answers that two or more have judged: Krippendorff's alpha."""
    found = agreement(_asked(lambda of: of.judgements(_from(since))))
    if as_json:
        names = Agreement.__slots__
        click.echo(json.dumps(None if found is None else {name: getattr(found, name) for name in names}))
    elif found is None:
        click.echo("no answer was judged by two experts")
    else:
        alpha = "not defined, as nobody ever differed" if found.alpha is None else f"{found.alpha:.3f}"
        click.echo(
            f"Krippendorff's alpha: {alpha}; {found.observed:.1%} of pairs agree; "
            f"{found.num_judgements} verdicts on {found.num_units} answers"
        )


def _asked(question: Callable[[Reviews], Awaitable[T]]) -> T:
    async def asked() -> T:
        reviews = Reviews(postgres_dsn())
        try:
            return await question(reviews)
        finally:
            await reviews.close()

    return asyncio.run(asked())


async def _publish(event: FeedbackGiven, event_id: str) -> None:
    async with Client(brokers()) as client:
        await client.publish(event, event_id=event_id)


def _from(since: datetime | None) -> datetime:
    return since or datetime.now(UTC) - timedelta(days=7)


def _id(said: str) -> str:
    request_id = canonical_uuid(said)
    if not is_request_id(request_id):
        raise click.UsageError(f"expected a UUIDv7 as `conclave review claim` prints it, got {said!r}")
    return request_id


def _cut(text: str | None) -> str:
    line = in_one_line(text or "")
    return line if len(line) <= _SHOWN_CHARS else line[: _SHOWN_CHARS - 1] + "…"


def _told(item: Item, reviewer: str) -> list[str]:
    """The question and its answer; what the vote thought of it comes last, so that it sways nobody."""
    others = [f"{in_one_line(answer)} ({votes})" for answer, votes in item.tally]
    return [
        f"request  {item.request_id}",
        f"why      {', '.join(item.reasons)}; reviewed by {item.num_reviews} so far",
        "",
        printable(item.question or "(no question is recorded)"),
        "",
        f"Answer: {printable(item.answer)}",
        "",
        f"conclave review verdict {item.request_id} right|wrong --reviewer {reviewer}",
        f"votes: {', '.join(others)}" if others else "",
    ]


def _document(item: Item) -> dict[str, object]:
    return {
        "request_id": item.request_id,
        "asked_at": item.asked_at.isoformat(),
        "question": item.question,
        "answer": item.answer,
        "reasons": list(item.reasons),
        "num_reviews": item.num_reviews,
        "policy": item.policy,
        "margin": item.margin,
        "tally": [{"answer": answer, "votes": votes} for answer, votes in item.tally],
    }
