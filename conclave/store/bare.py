"""Rows without anyone's words: of requests whose tenant has its content off, and late ones of requests that were erased.

What `conclave.store.erasure` blanks later, this never lets in: the same columns, and the ids that clients choose as well. Keys
stay keys: what is a part of one becomes a digest within its request. Pure.
"""

from collections.abc import Callable, Collection, Iterable
from hashlib import blake2b
from typing import Any

from conclave.domain.recorded import RecordedEvent
from conclave.store.erasure import BLANKED, ERASED
from conclave.store.rows import TABLES, Row, Rows
from schemas.events import PlanMade, ReasoningRequested
from schemas.ids import is_request_id

Blank = Callable[[str, Any], Any]  # of a request's id, and what stood there

_LITERALS: dict[str, Any] = {"NULL": None, "''": "", "'{}'": "{}", "'[]'": "[]"}


def _digest(request_id: str, value: Any) -> str | None:
    """What tells one text from another within a request, and is neither."""
    if value is None:
        return None
    return ERASED + blake2b(f"{request_id}\0{value}".encode(), digest_size=12).hexdigest()


# Besides what erasing blanks. Of these several rows may have the same, or may not.
_DIGESTED: dict[str, tuple[str, ...]] = {
    "plans": ("unit",),
    "feedback": ("source", "event_id", "event_source", "supersedes"),
    "feedback_payloads": ("event_id", "event_source"),
    "approvals": ("given_by", "event_id", "event_source"),
}


def _blanks(table: str) -> dict[int, Blank]:
    columns = TABLES[table]
    digested: dict[str, Blank] = dict.fromkeys(_DIGESTED.get(table, ()), _digest)
    literal = {name: value for name, value in BLANKED.get(table, {}).items() if name not in digested}
    blanked: dict[str, Blank] = {name: _always(_LITERALS[value]) for name, value in literal.items()}
    return {columns.index(name): blank for name, blank in (blanked | digested).items()}


def _always(value: Any) -> Blank:
    return lambda request_id, said: value


_BLANKS = {table: _blanks(table) for table in TABLES}


def request_ids(rows: Rows) -> set[str]:
    """The requests that rows belong to."""
    return {str(row[0]) for table in TABLES for row in rows.get(table, ())}


def forks(batch: Iterable[RecordedEvent]) -> dict[str, str]:
    """The forks that begin or are planned in a batch, and which request each is of."""
    found: dict[str, str] = {}
    for each in batch:
        match each.event:
            case ReasoningRequested(request_id=str(request_id), fork=fork) if fork is not None:
                found[request_id] = fork.request_id
            case PlanMade(request_id=request_id, reasons=reasons) if (told := reasons.get("forked from")) is not None:
                found[request_id] = told.partition(",")[0]
    return {fork: of for fork, of in found.items() if is_request_id(fork) and is_request_id(of)}


def bared(rows: Rows, bare: Collection[str]) -> Rows:
    """The rows, those of the requests in `bare` without their words."""
    if not bare:
        return rows
    found = {
        table: [_bared(row, _BLANKS[table]) if str(row[0]) in bare else row for row in rows.get(table, ())]
        for table in TABLES
    }
    return {**rows, **{table: listed for table, listed in found.items() if listed}}


def _bared(row: Row, blanks: dict[int, Blank]) -> Row:
    return tuple(blanks[at](str(row[0]), value) if at in blanks else value for at, value in enumerate(row))
