"""`conclave trace`: the reasoning of one request as a tree, from the record."""

import asyncio
import json
from typing import Any

import click
from rich.text import Text
from rich.tree import Tree

from conclave.cli.endpoints import postgres_dsn
from conclave.cli.output import console, in_one_line, printable
from schemas.ids import is_request_id

_SHOWN_CHARS = 160


@click.command()
@click.argument("request_id", metavar="REQUEST")
@click.option("--full", is_flag=True, help="Whole texts of paths, not their ends.")
@click.option("--json", "as_json", is_flag=True, help="Everything recorded, as JSON.")
def trace(request_id: str, full: bool, as_json: bool) -> int:
    """Show how REQUEST was reasoned about: steps, paths, votes, verdicts. Exit status 1 when it is not recorded."""
    if not is_request_id(request_id):
        raise click.UsageError(f"REQUEST: expected a UUIDv7 in lower case, got {request_id!r}")
    from conclave.store.queries import request_trace

    found = asyncio.run(request_trace(postgres_dsn(), request_id))
    if as_json:
        click.echo(json.dumps(found, default=str, ensure_ascii=False))
    elif found["request"]:
        console().print(_tree(found, full=full))
    else:
        raise click.ClickException(f"nothing is recorded of {request_id} (yet)")
    return 0 if found["request"] else 1


def _tree(found: dict[str, list[dict[str, Any]]], *, full: bool) -> Tree:
    request = found["request"][0]
    tree = Tree(Text(printable(f"{request['question']}")))
    answer = request["answer"] if request["failure"] is None else f"failed: {request['failure']}"
    cost = (
        f"{request['num_paths']} paths, {request['tokens_out']} tokens, {request['elapsed_ms'] or 0:.0f} ms"
        if request["answered_at"]
        else "not answered yet"
    )
    tree.add(
        Text(in_one_line(f"answer {answer}") + f"  (policy {request['policy']}, route {request['route']}, {cost})")
    )
    flips = {(flip["step_index"], flip["sample_index"]) for flip in found["flips"]}
    for step in found["steps"]:
        branch = tree.add(Text(printable(_step(step))))
        for path in found["paths"]:
            if path["step_index"] == step["step_index"]:
                is_flip = (path["step_index"], path["sample_index"]) in flips
                branch.add(Text(printable(_path(path, is_flip=is_flip, full=full))))
    for given in found["feedback"]:
        said = f"feedback from {given['source']}: reward {given['reward']} {given['comment'] or ''}"
        tree.add(Text(in_one_line(said)))
    return tree


def _step(step: dict[str, Any]) -> str:
    head = f"step {step['step_index']}"
    if step["depends_on"]:
        head += " after " + ", ".join(str(each) for each in step["depends_on"])
    if step["outcome"] is None:
        return f"{head}: undecided: {step['question']}"
    figures = (
        f"confidence {step['confidence']:.3f}, agreement {step['agreement']:.2f}, entropy {step['entropy']:.2f} bits"
    )
    return f"{head}: {step['answer']} ({step['outcome']}, {step['stop_reason']}; {figures}): {step['question']}"


def _path(path: dict[str, Any], *, is_flip: bool, full: bool) -> str:
    if path["failure"]:
        return f"path {path['sample_index']}: {path['failure']}: {path['text']}"
    text = path["text"] if full else " ".join(str(path["text"]).split())
    if not full and len(text) > _SHOWN_CHARS:
        text = "…" + text[-_SHOWN_CHARS:]
    marks = ("" if path["is_counted"] else ", not counted") + (", takes the lead" if is_flip else "")
    mean = "" if path["mean_logprob"] is None else f", logprob {path['mean_logprob']:.2f}"
    return f"path {path['sample_index']}: {path['vote']} ({path['tokens_out']} tokens{mean}{marks}): {text}"
