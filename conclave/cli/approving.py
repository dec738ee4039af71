"""`conclave approve`, `deny` and `approvals`: a yes or a no to a call of a tool that waits for one, and which do."""

import asyncio
import getpass
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from conclave.cli.endpoints import brokers, postgres_dsn
from conclave.cli.output import in_one_line
from conclave.runtime.client import Client
from schemas.events import ApprovalGiven
from schemas.ids import canonical_uuid, is_request_id

_MAX_AGE_DAYS = 2  # no request waits longer than a day


@click.command()
def approvals() -> int:
    """List the calls that wait for a yes. Exit status 1 when there is none."""
    waiting = asyncio.run(_waiting(None))
    for each in waiting:
        argument = in_one_line(each["argument"] or "")
        until = f"until {each['approval_until']:%Y-%m-%d %H:%M:%S} UTC"
        click.echo(f"{each['request_id']} step {each['step_index']}: {each['tool']}({argument}), {until}")
    return 0 if waiting else 1


def _command(name: str, *, is_approved: bool) -> click.Command:
    @click.command(name)
    @click.argument("request_id", metavar="REQUEST")
    @click.option("--step", "step_index", type=click.IntRange(0), help="Of several that wait, which.")
    @click.option("--because", default="", help="Why.")
    @click.option("--by", default=getpass.getuser, show_default="the user", help="Who says so.")
    def command(request_id: str, step_index: int | None, because: str, by: str) -> None:
        request_id = canonical_uuid(request_id)
        if not is_request_id(request_id):
            raise click.UsageError(f"expected a UUIDv7 as `conclave approvals` prints it, got {request_id!r}")
        call = _chosen(asyncio.run(_waiting(request_id)), request_id, step_index)
        try:
            given = msgspec.convert(
                {
                    "request_id": request_id,
                    "step_index": call["step_index"],
                    "is_approved": is_approved,
                    "given_by": by,
                    "why": because,
                    "until_ms": round(call["approval_until"].timestamp() * 1000),
                },
                ApprovalGiven,
            )
        except msgspec.ValidationError as error:
            raise click.UsageError(str(error)) from None
        asyncio.run(_publish(given))
        said = "approved" if is_approved else "denied"
        click.echo(f"{said}: step {call['step_index']}, {call['tool']}({in_one_line(call['argument'] or '')})")

    command.help = (
        f"Say {'yes' if is_approved else 'no'} to the call of REQUEST that waits for it. The first word counts."
    )
    return command


approve = _command("approve", is_approved=True)
deny = _command("deny", is_approved=False)


def _chosen(waiting: Sequence[dict[str, Any]], request_id: str, step_index: int | None) -> dict[str, Any]:
    found = [each for each in waiting if step_index in (None, each["step_index"])]
    if not found:
        raise click.ClickException(f"no call of {request_id} waits for a yes (see `conclave approvals`)")
    if len(found) > 1:
        steps = ", ".join(str(each["step_index"]) for each in found)
        raise click.UsageError(f"several calls of it wait: say which by --step, one of {steps}")
    return found[0]


async def _waiting(request_id: str | None) -> list[dict[str, Any]]:
    from conclave.store.queries import waiting_calls

    return await waiting_calls(postgres_dsn(), request_id, max_age_days=_MAX_AGE_DAYS)


async def _publish(event: ApprovalGiven) -> None:
    async with Client(brokers()) as client:
        await client.publish(event)
