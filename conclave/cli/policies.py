"""`conclave policies`: what there is, what one says, and whether files are as they should be."""

import json
import os
from pathlib import Path

import click
import msgspec

from conclave import prompts
from conclave.cli.output import print_rows
from conclave.extensions import SETTING, load_extensions, named_in
from conclave.policies import PolicySet, Problem, load
from conclave.tools import TOOLS, mcp_servers

_FOLDER, _PROMPTS = "CONCLAVE_POLICIES_DIR", "CONCLAVE_PROMPTS_DIR"
_SERVERS = "CONCLAVE_MCP_SERVERS"


@click.group()
def policies() -> None:
    """Reasoning policies: those that ship, and those of the folder that CONCLAVE_POLICIES_DIR names."""


@policies.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def list_all(as_json: bool) -> int:
    """List the policies. Exit status 1 when any file is wrong: then a decomposer takes none of them."""
    found, problems = load_policies(None)
    rows = [
        (
            row.policy.name,
            str(row.policy.version),
            row.policy.strategy,
            row.policy.prompt_set,
            row.policy.digest,
            row.about,
        )
        for row in found
    ]
    columns = ("name", "version", "strategy", "prompt_set", "digest", "about")
    if as_json:
        click.echo(json.dumps([dict(zip(columns, row, strict=True)) for row in rows]))
    else:
        print_rows(columns, rows)
    return _tell(problems)


@policies.command()
@click.argument("reference", metavar="NAME[@VERSION]")
def show(reference: str) -> None:
    """Show a policy as it travels: every default filled in, with its digest."""
    found, _ = load_policies(None)
    policy = found.find(reference)
    if policy is None:
        raise click.ClickException(f"no policy {reference!r}; there are: {', '.join(found.names)}")
    click.echo(msgspec.json.format(msgspec.json.encode(policy), indent=2).decode())


@policies.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
def check(folder: Path | None) -> int:
    """Check the policies that ship together with those of FOLDER. Exit status 1, and a line a problem, when any is wrong."""
    found, problems = load_policies(folder)
    if not problems:
        click.echo(f"{len(found.rows)} policies, all sound")
    return _tell(problems)


def load_policies(folder: Path | None) -> tuple[PolicySet, list[Problem]]:
    """As the decomposer would. Raises: Misconfigured for prompt sets or extensions that are wrong themselves."""
    load_extensions(named_in(os.environ.get(SETTING, "")))
    mcp_servers.declare(mcp_servers.read(_named(_SERVERS)))
    prompt_sets = prompts.available(_named(_PROMPTS), tools=TOOLS)
    folder = folder or _named(_FOLDER)
    return load(*([folder] if folder else []), prompt_sets=prompt_sets)


def _named(setting: str) -> Path | None:
    value = os.environ.get(setting)
    return Path(value) if value else None


def _tell(problems: list[Problem]) -> int:
    for problem in problems:
        click.echo(str(problem), err=True)
    return 1 if problems else 0
