"""`conclave routes`: what there is, whether files are as they should be, and how a question would be routed."""

import json
import os
from pathlib import Path

import click

from conclave import prompts, routes
from conclave.cli.amounts import Amount
from conclave.cli.output import print_rows
from conclave.domain.routing import Choice, Pressure, Streaks, route
from conclave.domain.routing.features import FEATURES, Seen
from conclave.extensions import SETTING, load_extensions, named_in
from conclave.policies import load as load_policies
from conclave.routes import Problem, Read, RouterSet
from conclave.tools import TOOLS, mcp_servers

_FOLDER, _POLICIES, _PROMPTS = "CONCLAVE_ROUTES_DIR", "CONCLAVE_POLICIES_DIR", "CONCLAVE_PROMPTS_DIR"
_SERVERS = "CONCLAVE_MCP_SERVERS"
_ROUTER, _TENANT = "CONCLAVE_ROUTER", "CONCLAVE_TENANT_TAG"


@click.group("routes")
def routes_group() -> None:
    """Routers, which give a policy to requests that name none: those that ship, and those of CONCLAVE_ROUTES_DIR."""


@routes_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
def list_all(as_json: bool) -> int:
    """List the routers. Exit status 1 when any file is wrong: then a decomposer takes none of them."""
    found, problems = _load(None)
    columns = ("name", "version", "rules", "classifier", "digest", "about")
    rows = [
        (
            each.router.name,
            str(each.router.version),
            str(len(each.router.rules)),
            each.router.classifier,
            each.router.digest,
            each.about,
        )
        for each in found
    ]
    if as_json:
        click.echo(json.dumps([dict(zip(columns, row, strict=True)) for row in rows]))
    else:
        print_rows(columns, rows)
    return _tell(problems)


@routes_group.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
def check(folder: Path | None) -> int:
    """Check the routers that ship together with those of FOLDER. Exit status 1, and a line a problem, when any is wrong."""
    found, problems = _load(folder)
    if not problems:
        click.echo(f"{len(found.rows)} routers, all sound")
    return _tell(problems)


@routes_group.command()
@click.argument("question")
@click.option("--router", "name", envvar=_ROUTER, default="effort", show_default=True, help="Its name.")
@click.option(
    "--tag", "tags", multiple=True, metavar="NAME=VALUE", help="A tag of the request; may be given several times."
)
@click.option("--pressure", type=Amount(0.0, 1.0), default=0.0, help="How near load or budget is to its limit.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object.")
def explain(question: str, name: str, tags: tuple[str, ...], pressure: float, as_json: bool) -> int:
    """Say which policy QUESTION would be given, by which rule and why, and what the router sees of it.

    As a decomposer would that has seen nothing else: a switch, which needs several questions in a row, is off.
    """
    found, problems = _load(None)
    read = found.rows.get(name)
    if problems or read is None:
        if read is None:
            click.echo(f"no router {name!r}; there are: {', '.join(found.names)}", err=True)
        return _tell(problems) or 1
    choice = _routed(read, question, dict(_tag(each) for each in tags), pressure)
    seen = Seen(question)
    figures = {feature: measure(seen) for feature, measure in FEATURES.items()}
    said = {"policy": choice.policy or "(the default)", **choice.reasons}
    if as_json:
        told = {"policy": choice.policy, "rule": choice.rule, "reasons": dict(choice.reasons)}
        click.echo(json.dumps(told | {"intent": seen.intent, "figures": figures}, ensure_ascii=False))
    else:
        shown = ", ".join(f"{feature} {value:g}" for feature, value in figures.items() if value)
        print_rows(("", "said"), [*said.items(), ("intent", seen.intent), ("figures", shown)])
    return 0


def _routed(read: Read, question: str, tags: dict[str, str], pressure: float) -> Choice:
    tenant = tags.get(os.environ.get(_TENANT, "tenant"), "")
    return route(
        read.router,
        question,
        tags,
        tenant=tenant,
        at="",
        classifier=read.classifier,
        pressure=Pressure(load=pressure),
        streaks=Streaks(),
    )


def _tag(text: str) -> tuple[str, str]:
    name, has_value, value = text.partition("=")
    if not name or not has_value:
        raise click.BadParameter(f"expected NAME=VALUE, got {text!r}", param_hint="--tag")
    return name, value


def _load(folder: Path | None) -> tuple[RouterSet, list[Problem]]:
    """As the decomposer would: the policies first, as rules give them out."""
    load_extensions(named_in(os.environ.get(SETTING, "")))
    mcp_servers.declare(mcp_servers.read(_named(_SERVERS)))
    prompt_sets = prompts.available(_named(_PROMPTS), tools=TOOLS)
    of_policies, folder = _named(_POLICIES), folder or _named(_FOLDER)
    policies, problems = load_policies(*([of_policies] if of_policies else []), prompt_sets=prompt_sets)
    found, wrong = routes.load(*([folder] if folder else []), policies=policies)
    return found, [*problems, *wrong]


def _named(setting: str) -> Path | None:
    value = os.environ.get(setting)
    return Path(value) if value else None


def _tell(problems: list[Problem]) -> int:
    for problem in problems:
        click.echo(str(problem), err=True)
    return 1 if problems else 0
