"""How an event of a version before becomes one of the next: `UPCASTS`, a row for each event and break.

A row's function is pure: from the JSON object that its version allowed to the one that the next version wants. Contexts
are handed on by services that may be of either version, so equal objects must become equal objects. The codec walks from
row to row up to the version that the code knows; each is proved on the bytes recorded in schemas/released/.

A row may go once no log holds its version any more: 30 days (dead letters) after the last service that wrote it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

Document = dict[str, Any]
Convert = Callable[[Document], Document]


class Upcast(NamedTuple):
    """One step on: the event's name in the next version, and what its object becomes."""

    event: str
    convert: Convert


def _plan_made_1(document: Document) -> Document:
    """Version 1 had a route, one way to ask for the whole plan, and steps that waited for others: none was ever made."""
    asked = [place for place, step in enumerate(document["steps"]) if not step.get("depends_on")]
    return _plan(document, num_steps=max(asked, default=0) + 1)


def _plan_carried_1(document: Document) -> Document:
    plan = _plan(document["plan"], num_steps=max(document["launched_steps"], default=0) + 1)
    return {
        "plan": plan,
        "grown": [],
        "verdicts": [_verdict(each) for each in document["verdicts"] if each["step_index"] < len(plan["steps"])],
        "is_closed": document["is_closed"],
    }


def _in_context_1(document: Document) -> Document:
    """For every event that holds a context: it held the whole policy, of which one ask is left."""
    context = document["context"]
    policy = context["policy"]
    now = {
        "request_id": context["request_id"],
        "step": {"index": context["step_index"], "fields": context["fields"]},
        "ask": _ask(policy),
        "prompt_set": policy["prompt_set"],
        "policy": policy["name"],
        "deadline_ms": context["deadline_ms"],
        "arm": context.get("arm", "default"),
    }
    return document | {"context": now}


def _answer_reached_1(document: Document) -> Document:
    """The last step gave the answer."""
    steps = [step["step_index"] for step in document["steps"]]
    rest = {name: value for name, value in document.items() if name != "route"}
    return rest | {"strategy": "vote", "answered_by": max(steps, default=0)}


def _as_it_was(document: Document) -> Document:
    return document


def _plan(document: Document, *, num_steps: int) -> Document:
    policy = document["policy"]
    steps = [
        {"index": step["index"], "fields": {"question": step["question"]}, "depends_on": step.get("depends_on", [])}
        for step in document["steps"][:num_steps]
    ]
    now = {
        "name": policy["name"],
        "prompt_set": policy["prompt_set"],
        "strategy": "vote",
        "asks": {"whole": _ask(policy)},
        "budget": {"max_steps": len(steps)},
    }
    rest = {name: value for name, value in document.items() if name != "route"}
    return rest | {"policy": now, "steps": steps}


# A policy's fields that an ask has too, and those that became parameters of its rules.
_KEPT = ("form", "voting", "stopping", "max_samples", "temperature", "top_p", "max_tokens")
_PARAMS = ("stop_confidence", "window", "lead")


def _ask(policy: Document) -> Document:
    kept = {name: policy[name] for name in _KEPT if name in policy}
    return {"form": "chain_of_thought"} | kept | {"params": {name: policy[name] for name in _PARAMS if name in policy}}


def _verdict(decided: Document) -> Document:
    """A verdict as it is carried since: without its ballots."""
    ballots = decided["ballots"]
    is_late = decided["answer"] is None and any(ballot.get("failure") == "deadline" for ballot in ballots)
    kept = ("step_index", "outcome", "answer", "confidence", "margin", "decided_ms")
    return {name: decided[name] for name in kept} | {
        "stop_reason": "deadline" if is_late else decided["stop_reason"],
        "tally": decided["tally"][:8],
        "num_paths": sum(ballot.get("failure") is None for ballot in ballots),
        "tokens_in": sum(ballot.get("tokens_in", 0) for ballot in ballots),
        "tokens_out": sum(ballot.get("tokens_out", 0) for ballot in ballots),
    }


UPCASTS: dict[tuple[str, int], Upcast] = {
    ("PlanMade", 1): Upcast("PlanMade", _plan_made_1),
    ("SampleRequested", 1): Upcast("SampleRequested", _in_context_1),
    ("PathDecoded", 1): Upcast("PathDecoded", _in_context_1),
    ("PathFailed", 1): Upcast("PathFailed", _in_context_1),
    ("TallyCarried", 1): Upcast("TallyCarried", _in_context_1),
    ("StepClosed", 1): Upcast("StepClosed", _as_it_was),
    ("StepDecided", 1): Upcast("StepDecided", _as_it_was),
    ("PlanCarried", 1): Upcast("ThoughtCarried", _plan_carried_1),
    ("AnswerReached", 1): Upcast("AnswerReached", _answer_reached_1),
    ("RequestFailed", 1): Upcast("RequestFailed", _as_it_was),
}


class Way(NamedTuple):
    """From an event as it was written to the newest that the rows lead to: its name and version, and the steps there."""

    event: str
    version: int
    steps: tuple[Convert, ...]

    def walk(self, document: Document) -> Document:
        """The object in the newest version. Raises: whatever a step makes of an object that its version did not allow."""
        for step in self.steps:
            document = step(document)
        return document


def way_from(event: str, version: int) -> Way:
    """The way from a version of an event to the newest one; without steps when no row leads on."""
    steps: list[Convert] = []
    while row := UPCASTS.get((event, version)):
        steps.append(row.convert)
        event, version = row.event, version + 1
    return Way(event, version, tuple(steps))
