"""`conclave erase`: forget what people wrote."""

import asyncio
import json

import click

from conclave.cli.endpoints import postgres_dsn
from conclave.store.erasure import erase_with_forks, forks_of, tagged
from schemas.ids import canonical_uuid, is_request_id


@click.command()
@click.argument("request_ids", nargs=-1)
@click.option("--tag", help="NAME=VALUE: all requests with this tag, as user=ann.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object.")
def erase(request_ids: tuple[str, ...], tag: str | None, yes: bool, as_json: bool) -> None:
    """Blank all texts of requests in the record: questions, paths, answers, feedback. Figures stay.

    Requests that were forked from them hold their words too, and are erased with them.

    The log keeps its own copy until its retention ends (7 days; dead letters 30).
    """
    wanted = [canonical_uuid(each) for each in request_ids]
    if wrong := [each for each in wanted if not is_request_id(each)]:
        raise click.UsageError(f"expected UUIDv7s as request ids, got {', '.join(wrong)}")
    name, has_value, value = (tag or "").partition("=")
    if tag is not None and not (name and has_value):
        raise click.UsageError(f"expected --tag NAME=VALUE, got {tag!r}")
    if not wanted and tag is None:
        raise click.UsageError("give REQUEST_IDS, --tag NAME=VALUE, or both")
    dsn = postgres_dsn()
    if tag is not None:
        wanted += asyncio.run(tagged(dsn, name, value))
    wanted = list(dict.fromkeys(wanted))
    if not wanted:
        raise click.ClickException("no such request")
    forks = [each for each in asyncio.run(forks_of(dsn, wanted)) if each not in wanted]
    if not yes:
        more = f", and of {len(forks)} that were forked from them," if forks else ""
        click.confirm(f"Erase the texts of {len(wanted)} requests{more} for good?", abort=True)
    num_requests, num_rows = asyncio.run(erase_with_forks(dsn, wanted, (name, value) if tag is not None else None))
    told = {"requests": num_requests, "rows": num_rows}
    click.echo(json.dumps(told) if as_json else f"erased {num_rows} rows of {num_requests} requests")
