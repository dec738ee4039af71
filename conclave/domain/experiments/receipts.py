"""An experiment's receipts: all that was done, decided, assigned and voted, in one file that is checked without the record.

A line is a hash and what it says, as JSON; the hash is the sha256 of the hash of the line before, a line feed, and that JSON. So no
byte can be changed, no line left out, put in or moved, and, since the last line counts them all, none cut off, without every hash
after it being another; who keeps the last one knows the whole. What lines say is then checked as on the record: versions follow
from each other and from the counts that are there with them, assignments from their draws, and verdicts from their votes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import sha256

import msgspec
from msgspec import Struct

from conclave.domain.experiments.evidence import Cell, Evidence
from conclave.domain.experiments.verification import (
    Assigned,
    Deviation,
    check_assignments,
    check_evidence,
    check_weights,
)
from schemas.events import ExperimentChanged, WeightsPublished

_HASH_CHARS = 64


class ChangeReceipt(Struct, frozen=True, tag="change"):
    """Something that was done to the experiment."""

    event: ExperimentChanged


class WeightsReceipt(Struct, frozen=True, tag="weights"):
    """A version of the weights, and what was counted below its watermark when the receipts were written; None: no longer there."""

    event: WeightsPublished
    cells: tuple[Cell, ...] | None
    spent_micro: int = 0


class AssignmentReceipt(Struct, frozen=True, tag="assignment"):
    """How a request came to its arm."""

    assigned: Assigned


class Vote(Struct, frozen=True, array_like=True):
    """A ballot: which of the answers it counted for, numbered by their first ballots; None for one that counted for none."""

    sample_index: int
    answer: int | None
    weight: float


class VerdictReceipt(Struct, frozen=True, tag="verdict"):
    """How a step of an assigned request was decided. Without votes where their answers were erased."""

    request_id: str
    step_index: int
    outcome: str
    stop_reason: str | None
    winner: int | None  # the answer that won, by its number
    num_votes: int | None
    num_for_winner: int | None
    votes: tuple[Vote, ...]


class EndReceipt(Struct, frozen=True, tag="end"):
    """The last line: how many there are of each kind."""

    num_changes: int
    num_weights: int
    num_assignments: int
    num_verdicts: int


Receipt = ChangeReceipt | WeightsReceipt | AssignmentReceipt | VerdictReceipt | EndReceipt
_KINDS = (ChangeReceipt, WeightsReceipt, AssignmentReceipt, VerdictReceipt)


def end_of(receipts: Iterable[Receipt]) -> EndReceipt:
    """What the last line says of the others."""
    counts = Counter(type(each) for each in receipts)
    return EndReceipt(*(counts[kind] for kind in _KINDS))


def written(receipts: Iterable[Receipt]) -> Iterator[bytes]:
    """The lines of the file, each with its hash."""
    before = ""
    for receipt in receipts:
        said = msgspec.json.encode(receipt, order="deterministic")
        before = _hash(before, said)
        yield before.encode() + b" " + said + b"\n"


def check_receipts(lines: Iterable[bytes]) -> tuple[EndReceipt | None, list[Deviation]]:
    """What the last line says, and everything that is wrong with the file. Where a line is, those after it are not looked at."""
    found, wrong = _read(lines)
    if wrong is not None:
        return None, [wrong]
    end = found[-1] if found and isinstance(found[-1], EndReceipt) else None
    if end is None or end != end_of(found[:-1]):
        said = "none" if end is None else str(end)
        return None, [Deviation("the last line", str(end_of(found[:-1] if end else found)), said)]
    return end, list(_said(found))


def _read(lines: Iterable[bytes]) -> tuple[list[Receipt], Deviation | None]:
    found: list[Receipt] = []
    decoder, before = msgspec.json.Decoder(Receipt), ""
    for number, line in enumerate(lines, start=1):
        given, said = line[:_HASH_CHARS].decode("ascii", "replace"), line[_HASH_CHARS + 1 : -1]
        expected = _hash(before, said)
        if line != expected.encode() + b" " + said + b"\n":
            return found, Deviation(f"line {number}, hash", expected, given)
        try:
            found.append(decoder.decode(said))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return found, Deviation(f"line {number}", "a receipt", str(error)[:200])
        before = expected
    return found, None


def _said(receipts: list[Receipt]) -> Iterator[Deviation]:
    changes = [each.event for each in receipts if isinstance(each, ChangeReceipt)]
    weights = [each for each in receipts if isinstance(each, WeightsReceipt)]
    versions = [each.event for each in weights]
    yield from check_weights(changes, versions)
    assigned = [each.assigned for each in receipts if isinstance(each, AssignmentReceipt)]
    yield from check_assignments(changes, versions, assigned)
    runs = {change.revision: change for change in changes}
    for place, each in enumerate(weights):
        run = runs.get(each.event.revision)
        if run is not None and each.cells is not None:
            evidence = Evidence(each.cells, each.event.as_of_ms, each.spent_micro)
            yield from check_evidence(run, evidence, each.event, versions[place - 1] if place else None)
    for receipt in receipts:
        if isinstance(receipt, VerdictReceipt) and receipt.votes:
            yield from _counted_again(receipt)


def _counted_again(verdict: VerdictReceipt) -> Iterator[Deviation]:
    """Whether a verdict's counts are those of its votes."""
    said = [vote.answer for vote in verdict.votes if vote.answer is not None]
    for_winner = sum(answer == verdict.winner for answer in said)
    given = (verdict.num_votes, verdict.num_for_winner)
    if given != (None, None) and given != (len(said), for_winner):
        where = f"request {verdict.request_id}, step {verdict.step_index}"
        yield Deviation(
            f"{where}, votes and those for the winner", f"{len(said)}, {for_winner}", f"{given[0]}, {given[1]}"
        )


def _hash(before: str, said: bytes) -> str:
    return sha256(before.encode() + b"\n" + said).hexdigest()
