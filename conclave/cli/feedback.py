"""`conclave feedback`: say what you think of an answer, a step or a path; replace it, or take it back."""

import asyncio
import getpass
import uuid

import click

from conclave.cli.amounts import Amount
from conclave.cli.endpoints import brokers
from conclave.runtime.client import Client
from schemas import producers
from schemas.events import FeedbackGiven
from schemas.experiments import Rater
from schemas.ids import canonical_uuid, is_request_id


@click.command()
@click.argument("request_id")
@click.argument("reward", type=Amount(0, 1), required=False)
@click.option("--right-answer", help="What would have been right.")
@click.option("--comment")
@click.option("--rating", type=Amount(), help="A place on a scale of 1 to --scale.")
@click.option("--scale", type=click.IntRange(2, 1000))
@click.option("--chosen", help="Of two answers, the better one.")
@click.option("--rejected", help="Of two answers, the other one.")
@click.option("--metric", default="reward", show_default=True, help="What is judged: accepted, copied, retried, …")
@click.option("--rater", type=click.Choice([each.value for each in Rater]), default="user", show_default=True)
@click.option("--source", default=getpass.getuser, show_default="the user", help="Who says so.")
@click.option("--step", "step_index", type=int, help="The step that it is about; default: the answer.")
@click.option("--path", "sample_index", type=int, help="The path of that step that it is about.")
@click.option("--id", "feedback_id", help="Published twice under one id, it counts once; default: a new one.")
@click.option("--supersedes", help="The id of the feedback that this one replaces.")
@click.option("--withdraw", "withdrawn", help="The id of feedback to take back.")
def feedback(request_id: str, rater: str, feedback_id: str | None, withdrawn: str | None, **said: object) -> None:
    """Publish feedback on REQUEST_ID: a REWARD from 0 (wrong, useless) to 1 (right, helpful), or what the options say.

    Prints the feedback's id, by which it is replaced or taken back.
    """
    request_id = canonical_uuid(request_id)
    if not is_request_id(request_id):
        raise click.UsageError(f"expected a UUIDv7 as `conclave ask` prints it, got {request_id!r}")
    if withdrawn is not None:
        said |= {"supersedes": withdrawn, "is_withdrawn": True}
    feedback_id = feedback_id or uuid.uuid4().hex
    try:
        document = {"request_id": request_id, "rater": rater, "feedback_id": feedback_id, **said}
        event = producers.convert(document, FeedbackGiven)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    asyncio.run(_publish(event, feedback_id))
    click.echo(feedback_id)


async def _publish(event: FeedbackGiven, event_id: str) -> None:
    async with Client(brokers()) as client:
        await client.publish(event, event_id=event_id)
