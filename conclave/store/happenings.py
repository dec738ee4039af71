"""What has happened to requests so far, as the record has it: for whoever follows them."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import msgspec

from conclave.store.reader import Reader, Record
from conclave.store.rows import asked_at

_OF_THESE = "{t}.request_id = ANY(CAST(:ids AS uuid[])) AND {t}.asked_at BETWEEN :first AND :last"
_ANSWERS = """
    SELECT a.*, p.message, p.steps, p.tally, v.fields, g.content
    FROM answers a
    LEFT JOIN gateway_requests g ON g.request_id = a.request_id
    LEFT JOIN answer_payloads p ON p.asked_at = a.asked_at AND p.request_id = a.request_id
    LEFT JOIN verdict_payloads v
        ON v.asked_at = a.asked_at AND v.request_id = a.request_id AND v.step_index = coalesce(a.answered_by, 0)
    WHERE """ + _OF_THESE.format(t="a")
# Kind, query, and the columns that tell one from another of its kind.
_HAPPENINGS = (
    (
        "planned",
        "SELECT p.request_id, p.planned_at, p.strategy, p.policy, p.arm, p.num_steps FROM plans p WHERE "
        + _OF_THESE.format(t="p"),
        (),
    ),
    (
        "path",
        "SELECT p.request_id, p.step_index, p.sample_index, p.answer, p.failure, p.tokens_out, p.total_ms FROM paths p WHERE "
        + _OF_THESE.format(t="p")
        + " ORDER BY p.step_index, p.sample_index",
        ("step_index", "sample_index"),
    ),
    (
        "decided",
        "SELECT v.request_id, v.step_index, v.outcome, v.stop_reason, v.answer, v.confidence, v.margin, v.launched, t.tally,"
        " t.fields"
        " FROM verdicts v LEFT JOIN verdict_payloads t USING (asked_at, request_id, step_index) WHERE "
        + _OF_THESE.format(t="v")
        + " ORDER BY v.step_index",
        ("step_index",),
    ),
)
_AS_JSON = frozenset({"tally", "steps", "tags", "fields"})
_REQUEST = """
    SELECT r.request_id, r.asked_at, r.policy, r.max_samples, r.deadline_s, p.question, p.tags
    FROM requests r LEFT JOIN request_payloads p USING (asked_at, request_id) WHERE """ + _OF_THESE.format(t="r")


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened to a request. `name` is the same whenever it is read, and its own within the request."""

    name: str
    kind: str  # planned, path or decided
    data: Record


class Happenings:
    """Reads them. Every method raises LostDependency while Postgres is away."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def of(self, request_ids: Collection[str]) -> dict[str, list[Happening]]:
        """All that happened to each of these requests before its end."""
        found: dict[str, list[Happening]] = defaultdict(list)
        for kind, query, columns in _HAPPENINGS:
            for row in await self._rows(query, request_ids):
                name = "/".join([kind, *(str(row[column]) for column in columns)])
                found[str(row.pop("request_id"))].append(Happening(name, kind, row))
        return found

    async def ends(self, request_ids: Collection[str]) -> dict[str, Record]:
        """The row of `answers`, with its payload, of each of these requests that has ended."""
        return {str(row["request_id"]): row for row in await self._rows(_ANSWERS, request_ids)}

    async def request(self, request_id: str) -> Record | None:
        """The request as it was asked; None while the record does not have it."""
        return next(iter(await self._rows(_REQUEST, [request_id])), None)

    async def _rows(self, query: str, request_ids: Collection[str]) -> list[Record]:
        if not request_ids:
            return []
        times = sorted(asked_at(request_id) for request_id in request_ids)
        rows = await self._reader.rows(query, {"ids": list(request_ids), "first": times[0], "last": times[-1]})
        return [{name: _read(name, value) for name, value in row.items()} for row in rows]


def _read(name: str, value: Any) -> Any:
    """A value of a column; what is kept as JSON comes as text."""
    return msgspec.json.decode(value) if name in _AS_JSON and isinstance(value, str) else value
