"""`conclave keys`: API keys of the gateway, their tenants, and who changed them."""

import asyncio
import getpass
import json
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

import click

from conclave.cli.endpoints import postgres_dsn
from conclave.cli.output import print_rows
from conclave.domain.api_keys import ApiKey, Scope
from conclave.domain.priorities import PRIORITIES
from conclave.errors import Rejected
from conclave.store.accounts import Accounts, KeyRow

_TENANT = re.compile("[a-z0-9][a-z0-9._-]{0,63}")
_SCOPES = [scope.value for scope in Scope]
T = TypeVar("T")


@click.group()
def keys() -> None:
    """API keys of the gateway. Until the first one is made, it serves everyone on this machine and nobody else."""


def _tenant(context: click.Context, parameter: click.Parameter, name: str) -> str:
    if not _TENANT.fullmatch(name):
        raise click.BadParameter("1 to 64 of a-z 0-9 . _ - are expected, the first a letter or digit")
    return name


@keys.command()
@click.option("--tenant", default="default", show_default=True, callback=_tenant, help="Whose key it is.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(_SCOPES),
    default=("ask", "feedback"),
    show_default=True,
    help="What it lets its holder do. May be repeated.",
)
@click.option("--label", default="", help="Words for the list.")
@click.option("--days", type=click.IntRange(1, 3650), help="In force for so long.  [default: until revoked]")
def create(tenant: str, scopes: tuple[str, ...], label: str, days: int | None) -> None:
    """Make a key, and print it: it is shown this once."""
    lifetime = timedelta(days=days) if days else None
    wanted = [Scope(scope) for scope in scopes]
    _show(_with(lambda accounts: accounts.create(tenant, wanted, actor=_actor(), label=label, lifetime=lifetime)))


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def list_(as_json: bool) -> None:
    """List keys, without their secrets."""
    rows = _with(lambda accounts: accounts.keys())
    if as_json:
        told = [{name: getattr(row, name) for name in KeyRow.__slots__} for row in rows]
        click.echo(json.dumps(told, default=str))
        return
    shown = [
        (row.key_id, row.tenant, " ".join(row.scopes), f"{row.created_at:%Y-%m-%d %H:%M}", _state(row), row.label)
        for row in rows
    ]
    print_rows(("key", "tenant", "scopes", "made", "state", "label"), shown)


@keys.command()
@click.argument("key_id")
@click.option("--grace", "grace_s", type=click.IntRange(0, 30 * 86_400), default=86_400, show_default=True,
              help="Seconds for which the old key goes on.")  # fmt: skip
@click.option("--days", type=click.IntRange(1, 3650), help="In force for so long.  [default: as long as the old one]")
def rotate(key_id: str, grace_s: int, days: int | None) -> None:
    """Make a new key in place of KEY_ID, which goes on for a day."""
    grace, lifetime = timedelta(seconds=grace_s), timedelta(days=days) if days else None
    _show(_with(lambda accounts: accounts.rotate(key_id, actor=_actor(), grace=grace, lifetime=lifetime)))


@keys.command()
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """Put KEY_ID out of force, for good. A gateway may take it for 5 seconds more."""
    _with(lambda accounts: accounts.revoke(key_id, actor=_actor()))
    click.echo(f"{key_id} is revoked.")


@keys.command()
@click.argument("name", callback=_tenant)
@click.option("--rate", type=click.IntRange(0), help="Requests per minute; 0: no limit.")
@click.option("--open", "max_open", type=click.IntRange(0), help="Requests open at once; 0: no limit.")
@click.option(
    "--tokens-per-day",
    type=click.IntRange(0),
    help="Tokens generated for it in 24 hours, of all paths, batches included; 0: no limit.",
)
@click.option(
    "--redact/--no-redact", "is_redacted", default=None, help="Mask what looks like a secret.  [default: redact]"
)
@click.option(
    "--content",
    type=click.Choice(["kept", "off"]),
    help="off: the record keeps the figures of its requests, and none of their words.  [default: kept]",
)
@click.option(
    "--most-urgent",
    type=click.Choice(list(PRIORITIES)),
    help="Class of priority that its requests may have; more urgent ones are lowered to it.  [default: interactive]",
)
def tenant(
    name: str,
    rate: int | None,
    max_open: int | None,
    tokens_per_day: int | None,
    is_redacted: bool | None,
    content: str | None,
    most_urgent: str | None,
) -> None:
    """Make a tenant, or change it: what you don't name stays as it is. --content holds for what is asked from now."""
    is_kept = None if content is None else content == "kept"
    _with(
        lambda accounts: accounts.change_tenant(
            name,
            actor=_actor(),
            rate_per_minute=rate,
            max_open=max_open,
            tokens_per_day=tokens_per_day,
            is_redacted=is_redacted,
            is_kept=is_kept,
            most_urgent=most_urgent,
        )
    )
    click.echo(f"Tenant {name} is as you said.")


@keys.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def tenants(as_json: bool) -> None:
    """List tenants: their limits, and how many tokens were generated for what they asked in the last 24 hours."""
    found = _with(lambda accounts: accounts.tenants())
    if as_json:
        click.echo(json.dumps(found))
        return
    columns = {
        "tenant": "tenant", "rate_per_minute": "a minute", "max_open": "at once", "tokens_per_day": "tokens a day",
        "tokens_24_h": "in 24 h", "is_redacted": "redacted", "content": "content", "most_urgent": "most urgent",
    }  # fmt: skip
    shown = [tuple("" if row[name] is None else str(row[name]) for name in columns) for row in found]
    print_rows(tuple(columns.values()), shown)


@keys.command()
@click.argument("name", callback=_tenant)
@click.option("--drop", is_flag=True, help="Drop the role: its members see nothing more.")
def role(name: str, drop: bool) -> None:
    """Make the database role of tenant NAME, whose members read the tenant's own rows in SQL, and nobody else's."""
    if drop:
        _with(lambda accounts: accounts.drop_role(name, actor=_actor()))
        click.echo(f"The role of {name} is gone.")
        return
    made = _with(lambda accounts: accounts.make_role(name, actor=_actor()))
    click.echo(f"Role {made} sees what {name} asked, in the schema `tenant`. Let a person in with")
    click.echo(f"CREATE ROLE ann LOGIN PASSWORD '…' CONNECTION LIMIT 10 IN ROLE \"{made}\";")


@keys.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def changes(as_json: bool) -> None:
    """Show who changed what, the newest first."""
    found = _with(lambda accounts: accounts.changes())
    if as_json:
        click.echo(json.dumps(found, default=str))
        return
    columns = ("changed_at", "actor", "action", "tenant", "key_id", "detail")
    print_rows(columns, [tuple(str(row[column] or "") for column in columns) for row in found])


def _with(work: Callable[[Accounts], Awaitable[T]]) -> T:
    """What `work` gives. Raises: click.ClickException for what a person can mend."""

    async def run() -> T:
        accounts = Accounts(postgres_dsn())
        try:
            return await work(accounts)
        finally:
            await accounts.close()

    try:
        return asyncio.run(run())
    except Rejected as error:
        raise click.UsageError(f"expected {error.expected}, got {error.got!r}") from None


def _show(key: ApiKey) -> None:
    click.echo(key.text)
    click.echo(f"Keep it: it is shown this once. Its id is {key.key_id}.", err=True)


def _state(row: KeyRow) -> str:
    if row.revoked_at is not None:
        return "revoked"
    return "in force" if row.expires_at is None else f"until {row.expires_at:%Y-%m-%d %H:%M}"


def _actor() -> str:
    """Who runs this command, as the machine knows them."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
