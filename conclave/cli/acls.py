"""`conclave acls`: what each service, producer and operator may do on brokers that ask, shown or set."""

import asyncio
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from conclave.cli.endpoints import brokers
from conclave.cli.output import print_rows
from conclave.runtime.kafka import Admin
from conclave.runtime.rights import (
    Right,
    rights_of_operator,
    rights_of_producer,
    rights_of_service,
)
from schemas import flow

Granted = Sequence[tuple[str, Right]]
_PRINCIPAL = re.compile(r"[A-Za-z]+:\S.*")


def _principals(context: click.Context, parameter: click.Parameter, given: str | tuple[str, ...]) -> Any:
    """What was given. Kafka knows nobody by a bare name, so rights for one would be nobody's."""
    for each in (given,) if isinstance(given, str) else given:
        if not _PRINCIPAL.fullmatch(each):
            raise click.BadParameter(f"expected TYPE:NAME such as User:ann, got {each!r}")
    return given


@click.command()
@click.option(
    "--principal",
    default="User:{service}",
    show_default=True,
    callback=_principals,
    help="Who a service is to the brokers: {service} stands for its name.",
)
@click.option(
    "--producer",
    "producers",
    multiple=True,
    metavar="PRINCIPAL",
    callback=_principals,
    help="Who asks over Kafka. May be repeated.",
)
@click.option(
    "--operator",
    "operators",
    multiple=True,
    metavar="PRINCIPAL",
    callback=_principals,
    help="Who runs commands. May be repeated.",
)
@click.option("--apply", "is_applied", is_flag=True, help="Set them on the brokers, as who may alter the cluster.")
@click.option("--commands", "as_commands", is_flag=True, help="Lines for Kafka's own kafka-acls.sh.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def acls(
    principal: str,
    producers: tuple[str, ...],
    operators: tuple[str, ...],
    is_applied: bool,
    as_commands: bool,
    as_json: bool,
) -> None:
    """Show what each service may do on brokers with an authoriser, no more than it needs; with --apply, set it there.

    Rights that are there already stay, and none is taken away.
    """
    granted = [(principal.replace("{service}", row.name), right) for row in flow.SERVICES.values()
               for right in rights_of_service(row)]  # fmt: skip
    granted += [(each, right) for each in producers for right in rights_of_producer()]
    granted += [(each, right) for each in operators for right in rights_of_operator()]
    if is_applied:
        asyncio.run(_apply(granted))
        click.echo(f"{len(granted)} rights of {len({who for who, _ in granted})} principals are set.")
    elif as_commands:
        click.echo("\n".join(_command(who, right) for who, right in granted))
    elif as_json:
        click.echo(json.dumps([{"principal": who, **asdict(right)} for who, right in granted]))
    else:
        rows = [
            (who, right.operation.value, right.resource.value, right.name + ("*" if right.is_prefix else ""))
            for who, right in granted
        ]
        print_rows(("principal", "may", "of", "named"), rows)


async def _apply(granted: Granted) -> None:
    async with Admin(brokers()) as admin:
        for who, right in granted:
            await admin.grant(who, right)


def _command(who: str, right: Right) -> str:
    pattern = "prefixed" if right.is_prefix else "literal"
    return (
        f"kafka-acls.sh --bootstrap-server HOST:PORT --add --allow-principal {shlex.quote(who)} "
        f"--operation {right.operation.value} --{right.resource.value} {right.name} --resource-pattern-type {pattern}"
    )
