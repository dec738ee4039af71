"""What came of a request, in one shape whether it was heard in the log or found in the record."""

from typing import Any, Literal

from msgspec import Struct, convert
from msgspec.structs import replace

from conclave.store.happenings import Happening
from schemas.events import AnswerReached, RequestFailed
from schemas.values import FieldVerdict, StepAnswer, TallyRow


class Result(Struct, frozen=True, kw_only=True):
    """The end of a request: an answer with its vote, or a failure that says why."""

    request_id: str
    status: Literal["answered", "failed"]
    content: Literal["kept", "off", "erased"] = "kept"  # off: told from the log while that has it; erased: figures only
    answer: str | None = None
    outcome: str | None = None
    confidence: float | None = None
    margin: float | None = None
    strategy: str | None = None
    policy: str | None = None
    arm: str | None = None
    answered_by: int | None = None
    steps: tuple[StepAnswer, ...] = ()
    tally: tuple[TallyRow, ...] = ()
    fields: tuple[FieldVerdict, ...] = ()  # of a structured answer, reached or not
    failure: str | None = None
    message: str | None = None
    num_paths: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    elapsed_ms: float = 0.0


_FIELDS = frozenset(Result.__struct_fields__) - {"status", "content", "steps", "tally", "fields", "request_id"}


def of_event(event: AnswerReached | RequestFailed) -> Result:
    """The result that an event tells."""
    told = {name: getattr(event, name) for name in _FIELDS if hasattr(event, name)}
    if isinstance(event, RequestFailed):
        return Result(request_id=event.request_id, status="failed", fields=event.fields, **told)
    told |= {"steps": event.steps, "tally": event.tally, "fields": event.fields}
    return Result(request_id=event.request_id, status="answered", **told)


def planned(result: Result) -> Happening:
    """How a request was planned, as far as its end tells."""
    told = {"strategy": result.strategy, "policy": result.policy, "arm": result.arm, "num_steps": len(result.steps)}
    return Happening("planned", "planned", told)


def of_row(row: dict[str, Any]) -> Result:
    """The result that the record has: a row of `answers` with its payload, and the fields of the verdict that it is of."""
    told = {name: row[name] for name in _FIELDS if row.get(name) is not None}
    fields = convert(row.get("fields") or (), tuple[FieldVerdict, ...])
    return Result(
        request_id=str(row["request_id"]),
        status="failed" if row["failure"] else "answered",
        content=row.get("content") or "kept",
        steps=convert(row["steps"] or (), tuple[StepAnswer, ...]),
        tally=convert(row["tally"] or (), tuple[TallyRow, ...]),
        fields=tuple(replace(each, tally=()) for each in fields),  # as events tell them
        **told,
    )
