"""`conclave trace`: the reasoning of one request as a tree, from the record."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import click
from rich.text import Text
from rich.tree import Tree

from conclave.cli.endpoints import postgres_dsn
from conclave.cli.output import console, in_one_line, printable
from conclave.domain.correlation import effective_votes
from schemas.ids import is_request_id

_SHOWN_CHARS = 160
_LEAST_QUESTIONS = 30  # with fewer, a correlation is mostly chance


@click.command()
@click.argument("request_id", metavar="REQUEST")
@click.option("--full", is_flag=True, help="Whole texts of paths, not their ends.")
@click.option("--steps", "is_brief", is_flag=True, help="Steps only, without their paths: the shape of a long search.")
@click.option("--json", "as_json", is_flag=True, help="Everything recorded, as JSON.")
def trace(request_id: str, full: bool, is_brief: bool, as_json: bool) -> int:
    """Show how REQUEST was reasoned about: steps, paths, votes, verdicts. Exit status 1 when it is not recorded.

    A branch that the answer does not lean on is dim; what made the strategy go on, or back, stands behind `because`.
    """
    if not is_request_id(request_id):
        raise click.UsageError(f"REQUEST: expected a UUIDv7 in lower case, got {request_id!r}")
    from conclave.store.queries import request_trace

    found = asyncio.run(request_trace(postgres_dsn(), request_id))
    if as_json:
        click.echo(json.dumps(found, default=str, ensure_ascii=False))
    elif found["request"]:
        shown = found | {"paths": []} if is_brief else found
        console().print(_tree(shown, full=full))
    else:
        raise click.ClickException(f"nothing is recorded of {request_id} (yet)")
    return 0 if found["request"] else 1


def _tree(found: dict[str, list[dict[str, Any]]], *, full: bool) -> Tree:
    """The request with its answer, its steps each under the first that it leans on, their paths, and feedback."""
    request = found["request"][0]
    tree = Tree(Text(printable(f"{request['question']}")))
    tree.add(Text(_answer(request, found["steps"])))
    for name, reason in _reasons(found.get("plan", [])).items():
        tree.add(Text(in_one_line(f"{name}: {reason}"), style="dim"))
    flips = {(flip["step_index"], flip["sample_index"]) for flip in found["flips"]}
    leant_on = _leant_on(request, found["steps"])
    branches: dict[int, Tree] = {}
    for step in found["steps"]:
        parent = branches.get(step["depends_on"][0], tree) if step["depends_on"] else tree
        style = "" if step["step_index"] in leant_on else "dim"
        worth = _worth(step, found["paths"], found.get("correlation", []))
        branch = branches[step["step_index"]] = parent.add(Text(printable(_step(step) + worth), style=style))
        for call in found.get("calls", []):
            if call["step_index"] == step["step_index"]:
                branch.add(Text(in_one_line(_call(call)), style=style))
        for path in found["paths"]:
            if path["step_index"] == step["step_index"]:
                is_flip = (path["step_index"], path["sample_index"]) in flips
                turns = [turn for turn in found["turns"] if _is_of(turn, path)]
                branch.add(Text(printable(_path(path, turns, is_flip=is_flip, full=full)), style=style))
    for given in found["feedback"]:
        said = f"feedback from {given['source']}: reward {given['reward']} {given['comment'] or ''}"
        tree.add(Text(in_one_line(said)))
    return tree


def _reasons(plans: Sequence[dict[str, Any]]) -> dict[str, str]:
    """What spoke for the request's policy, as a router and others left it with the plan."""
    reasons = plans[0]["reasons"] if plans else {}
    return json.loads(reasons) if isinstance(reasons, str) else dict(reasons)


def _answer(request: dict[str, Any], steps: Sequence[dict[str, Any]]) -> str:
    answer = request["answer"] if request["failure"] is None else f"failed: {request['failure']}"
    how = f"policy {request['policy']}, {request['strategy']}"
    if not request["answered_at"]:
        return f"not answered yet  ({how})"
    by = next((step for step in steps if step["step_index"] == request["answered_by"]), None)
    if by and len(steps) > 1:
        how += f", answered by {by['mark'] or 'step ' + str(by['step_index'])}, {len(steps)} steps"
    if request.get("ended_by") not in (None, "decided"):
        how += f", ended by its {request['ended_by']}"
    cost = f"{request['num_paths']} paths, {request['tokens_out']} tokens, {request['elapsed_ms'] or 0:.0f} ms"
    return f"{in_one_line(f'answer {answer}')}  ({in_one_line(f'{how}, {cost}')})"


def _leant_on(request: dict[str, Any], steps: Sequence[dict[str, Any]]) -> set[int]:
    """The steps that the answer leans on, itself among them; all of them where there is no answer yet."""
    by_index = {step["step_index"]: step for step in steps}
    if request["answered_by"] is None:
        return set(by_index)
    found: set[int] = set()
    waiting = [request["answered_by"]]
    while waiting:
        index = waiting.pop()
        if index in by_index and index not in found:
            found.add(index)
            waiting += by_index[index]["depends_on"]
    return found


def _step(step: dict[str, Any]) -> str:
    head = f"step {step['step_index']}"
    if step["mark"]:
        head += f" [{step['mark']}]"
    head += f" {step['ask']}"
    if len(step["depends_on"]) > 1:
        head += " with " + ", ".join(str(each) for each in step["depends_on"][1:])
    asked = in_one_line(step["question"] or "") + (f"  because: {step['why']}" if step["why"] else "")
    if step["outcome"] is None:
        return f"{head}: undecided: {asked}"
    figures = (
        f"confidence {step['confidence']:.3f}, agreement {step['agreement']:.2f}, entropy {step['entropy']:.2f} bits"
    )
    said = in_one_line(step["answer"] or "no answer")
    return f"{head}: {said} ({step['outcome']}, {step['stop_reason']}; {figures}){_fields(step)}: {asked}"


def _fields(step: dict[str, Any]) -> str:
    """How sure each field of a structured answer is."""
    stored = step.get("field_votes")
    fields = json.loads(stored) if isinstance(stored, str) else stored or []
    told = (
        f"{each['name']} {each['confidence']:.3f}" if each["outcome"] == "majority" else f"{each['name']}: no consensus"
        for each in fields
    )
    return f" fields {', '.join(told)}" if fields else ""


def _worth(step: dict[str, Any], paths: Sequence[dict[str, Any]], known: Sequence[dict[str, Any]]) -> str:
    """What the step's votes are worth, where enough right answers are known to say how much paths err together."""
    num_votes = sum(
        bool(path["step_index"] == step["step_index"] and path["is_counted"] and path["vote"]) for path in paths
    )
    (row,) = known or (None,)
    if num_votes < 2 or row is None or row["rho"] is None or row["num_questions"] < _LEAST_QUESTIONS:
        return ""
    worth = effective_votes(num_votes, row["rho"])
    return f"  ({num_votes} votes are worth {worth:.1f}: rho {row['rho']:.2f} over {row['num_questions']} questions)"


def _is_of(turn: dict[str, Any], path: dict[str, Any]) -> bool:
    return (turn["step_index"], turn["sample_index"]) == (path["step_index"], path["sample_index"])


def _call(call: dict[str, Any]) -> str:
    """A call of a tool with an effect, and by whose leave."""
    told = f"call {call['tool']}({_end(call['argument'] or '')})"
    if call["is_waiting"]:
        return f"{told}: waits for a yes until {call['approval_until']:%H:%M:%S} UTC"
    if call["is_approved"] is not None:
        told += f", {'approved' if call['is_approved'] else 'denied'} by {call['given_by']}"
        told += f" ({call['why']})" if call["why"] else ""
    return f"{told}: {call['ended_by'] or 'under way'}"


def _path(path: dict[str, Any], turns: Sequence[dict[str, Any]], *, is_flip: bool, full: bool) -> str:
    if path["failure"]:
        return f"path {path['sample_index']}: {path['failure']}: {path['text']}"
    marks = ("" if path["is_counted"] else ", not counted") + (", takes the lead" if is_flip else "")
    mean = "" if path["mean_logprob"] is None else f", logprob {path['mean_logprob']:.2f}"
    sure = "" if path["probability"] is None else f", says {path['probability']:.0%} sure"
    tokens = "unknown" if path["tokens_out"] is None else path["tokens_out"]
    cut = f", handed on {path['num_handed_on']} times" if path.get("num_handed_on") else ""
    cost = f"{_told(turns)}{tokens} tokens{mean}{sure}{cut}{marks}"
    said = _in_full(path, turns) if full else _end(str(path["text"]))
    vote = "declined" if path.get("is_declined") else path["vote"]
    return f"path {path['sample_index']}: {vote} ({cost}): {said}"


def _told(turns: Sequence[dict[str, Any]]) -> str:
    """What a path of several turns did: `3 turns: chain_of_thought → 3; criticise → Step 1 is wrong: 1+1=3; retry; `."""
    if not turns:
        return ""
    told: list[str] = []
    for turn in turns:
        if turn["tool"] is not None and told:
            told[-1] += f" = {turn['answer']}"
        elif turn["called"] is not None:
            told.append(f"{turn['called']}({turn['argument']})")
        else:
            told.append(turn["form"] + (f" → {turn['answer']}" if turn["answer"] else ""))
    return f"{len(told)} turns: {'; '.join(_end(each) for each in told)}; "


def _in_full(path: dict[str, Any], turns: Sequence[dict[str, Any]]) -> str:
    """All that was said, each turn under its form or tool."""
    return "".join(f"\n[{turn['tool'] or turn['form']}] {turn['text']}" for turn in turns) or str(path["text"])


def _end(text: str) -> str:
    """A text in one line, or the end of it."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARS else "…" + line[-_SHOWN_CHARS:]
