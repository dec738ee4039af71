"""What came of a request, in one shape whether it was heard in the log or found in the record."""

from typing import Any, Literal

from msgspec import Struct, convert

from schemas.events import AnswerReached, RequestFailed
from schemas.values import StepAnswer, TallyRow


class Result(Struct, frozen=True, kw_only=True):
    """The end of a request: an answer with its vote, or a failure that says why."""

    request_id: str
    status: Literal["answered", "failed"]
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
    failure: str | None = None
    message: str | None = None
    num_paths: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    elapsed_ms: float = 0.0


_FIELDS = frozenset(Result.__struct_fields__) - {"status", "steps", "tally", "request_id"}


def of_event(event: AnswerReached | RequestFailed) -> Result:
    """The result that an event tells."""
    told = {name: getattr(event, name) for name in _FIELDS if hasattr(event, name)}
    if isinstance(event, RequestFailed):
        return Result(request_id=event.request_id, status="failed", **told)
    return Result(request_id=event.request_id, status="answered", steps=event.steps, tally=event.tally, **told)


def of_row(row: dict[str, Any]) -> Result:
    """The result that the record has: a row of `answers` with its payload."""
    told = {name: row[name] for name in _FIELDS if row.get(name) is not None}
    return Result(
        request_id=str(row["request_id"]),
        status="failed" if row["failure"] else "answered",
        steps=convert(row["steps"] or (), tuple[StepAnswer, ...]),
        tally=convert(row["tally"] or (), tuple[TallyRow, ...]),
        **told,
    )
