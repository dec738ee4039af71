"""Faults planted in the runtime and around it, one at a time: each leaves out, misplaces or half does one step of a protocol.

`FAULTS` names them. Each is a context manager inside which the fault is there.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from unittest.mock import patch  # replaces an attribute for a while; nothing is mocked

from conclave.domain import planning
from conclave.domain.external import Entry, Known
from conclave.errors import Fenced
from conclave.runtime import lane as lane_module
from conclave.runtime.broker import TransactionalProducer
from conclave.runtime.dead_letters import Cause, Reason
from conclave.runtime.duplicates import Duplicates
from conclave.runtime.groups import Groups
from conclave.runtime.handler import Arrival
from conclave.runtime.lane import Lane
from conclave.runtime.record import Completion, Output, Tp
from conclave.runtime.tracker import Commit
from conclave.testing.world import MemoryLedger
from schemas.events import Event, SampleRequested
from services.decoder.handler import Decoder
from services.decoder.rollout import Rollout

_restore = Lane._restore
_read_back = Duplicates.read_back


@dataclass(frozen=True, slots=True)
class Fault:
    """`plant` puts it in. `only`: the moves that bring it out soonest, all when empty."""

    plant: Callable[[], AbstractContextManager[object]]
    only: Collection[str] = ()
    within: int = 1_500  # schedules until it is found; nearly all are within a hundred
    first: int = 0  # the seed from which on it is looked for: a rare one is found sooner where it was found before


# -- the five steps of opening a lane: see the docstring of conclave.runtime.lane --------------------------------------


@dataclass(frozen=True)
class Opening:
    """`Lane._open`, with one thing wrong."""

    asks_membership: bool = True
    fences: str = "first"  # or "last": after the committed set was read; or "once"
    reads: bool = True
    restore: Callable[[Lane, Commit], None] = _restore
    prepares: bool = True
    seeks: bool = True
    admits_early: bool = False

    async def open(self, lane: Lane, cause: str) -> None:
        lane.is_ready = lane._must_reopen = False
        if self.asks_membership and not await lane._consumer.is_member():
            raise Fenced(str(lane.tp))
        lane.is_ready = self.admits_early
        is_early = lane.membership is None or lane.membership.generation < 2
        if self.fences == "first" or (self.fences == "once" and is_early):
            await lane._producer.open()
        commit = await lane._committed() if self.reads else Commit(0)
        if self.fences == "last":
            await lane._producer.open()
        self.restore(lane, commit)
        if self.prepares:
            await lane._prepare(lane)
        if self.seeks:
            lane._consumer.seek(lane.tp, lane.tracker.low)
        lane.is_ready = True
        lane._on_change()


def _opening(**wrong: object) -> AbstractContextManager[object]:
    opening = Opening(**wrong)  # type: ignore[arg-type]
    return patch.object(Lane, "_open", lambda lane, cause: opening.open(lane, cause))


def _forgets_what_is_done_above_the_watermark(lane: Lane, commit: Commit) -> None:
    _restore(lane, Commit(commit.low))


def _sends_again_what_is_durable(lane: Lane, commit: Commit) -> None:
    finished = [*lane._flushing, *lane._outbox]
    _restore(lane, commit)
    if lane.groups is None:
        lane._outbox.clear()
        lane._outbox.extend(finished)
        lane.tracker.running.update(each.offsets[0] for each in finished)


def _sends_decisions_of_dropped_groups(lane: Lane, commit: Commit) -> None:
    finished: list[Completion] = [*lane._flushing, *lane._outbox]
    _restore(lane, commit)
    if lane.groups is not None:
        lane._outbox.extend(finished)


def _keeps_groups(lane: Lane, commit: Commit) -> None:
    with patch.object(Groups, "clear", lambda groups: None):
        _restore(lane, commit)


def _drops_finished_work_and_calls_it_running(lane: Lane, commit: Commit) -> None:
    finished = [*lane._flushing, *lane._outbox]
    _restore(lane, commit)
    lane._outbox.clear()
    if lane.groups is None:
        lane.tracker.running.update(each.offsets[0] for each in finished)


def _forgets_what_runs(lane: Lane, commit: Commit) -> None:
    _restore(lane, commit)
    lane.tracker.running.clear()


def _keeps_running_what_is_done(lane: Lane, commit: Commit) -> None:
    running, lane.tasks = lane.tasks, {}
    _restore(lane, commit)
    lane.tasks = running
    if lane.groups is None:
        lane.tracker.running.update(running)


def _does_nothing(lane: Lane, commit: Commit) -> None:
    lane._wake.set()
    lane._idle.set()


# -- the five steps of a flush: see the docstring of conclave.runtime.transaction --------------------------------------


def _flushing(*steps: int) -> AbstractContextManager[object]:
    async def transact(
        producer: TransactionalProducer,
        outputs: Sequence[Output],
        consumer_group: str,
        offsets: Mapping[Tp, tuple[int, str]],
    ) -> None:
        numbered: dict[int, Callable[[], Awaitable[None]]] = {
            1: producer.begin,
            2: lambda: producer.send(outputs),
            3: lambda: producer.send_offsets(consumer_group, offsets),
            4: producer.acknowledged,
            5: producer.commit,
        }
        for step in steps:
            await numbered[step]()

    return patch.object(lane_module, "transact", transact)


# -- around them --------------------------------------------------------------------------------------------------------


@contextmanager
def _forgets_the_window_when_a_lane_opens_again() -> Iterator[None]:
    async def from_the_log_only(duplicates: Duplicates, lane: Lane) -> None:
        duplicates.forget(lane.tp)
        await _read_back(duplicates, lane)

    with patch.object(Duplicates, "read_back", from_the_log_only):
        yield


def _knows_no_call_that_was_begun(ledger: MemoryLedger, key: str) -> Entry:
    ledger._database.calls.setdefault(key, Entry(Known.BEGUN))
    return Entry(Known.NEW)


# -- a path that is handed on -----------------------------------------------------------------------------------------


def _ends_what_is_handed_on() -> AbstractContextManager[object]:
    handle = Decoder.handle

    async def both(decoder: Decoder, event: Event, arrival: Arrival) -> Sequence[Event]:
        outputs = list(await handle(decoder, event, arrival))
        is_handed_on = isinstance(outputs[-1], SampleRequested)
        return [*outputs, *decoder.give_up(event, arrival, Cause(Reason.REJECTED, ""))] if is_handed_on else outputs

    return patch.object(Decoder, "handle", both)


FAULTS: dict[str, Fault] = {
    "opening 1: membership is not asked": Fault(lambda: _opening(asks_membership=False), only=("shut_out",)),
    "opening 2: the former owner is fenced after the committed set is read": Fault(lambda: _opening(fences="last")),
    "opening 2: the producer is opened once and never again": Fault(lambda: _opening(fences="once")),
    "opening 3: the committed set is not read": Fault(lambda: _opening(reads=False)),
    "opening 4: nothing is restored": Fault(lambda: _opening(restore=_does_nothing)),
    "opening 4: what is done above the watermark is forgotten": Fault(
        lambda: _opening(restore=_forgets_what_is_done_above_the_watermark)
    ),
    "opening 4: what is durable is sent again": Fault(lambda: _opening(restore=_sends_again_what_is_durable)),
    "opening 4: decisions of dropped groups are sent": Fault(
        lambda: _opening(restore=_sends_decisions_of_dropped_groups)
    ),
    "opening 4: groups are kept": Fault(lambda: _opening(restore=_keeps_groups), only=("relieve", "shut_out")),
    "opening 4: finished work is dropped and called running": Fault(
        lambda: _opening(restore=_drops_finished_work_and_calls_it_running)
    ),
    "opening 4: running work is forgotten": Fault(lambda: _opening(restore=_forgets_what_runs)),
    "opening 4: what is done runs on": Fault(
        lambda: _opening(restore=_keeps_running_what_is_done), only=("relieve", "shut_out"), within=2_000
    ),
    "opening 5: the duplicate window is not read back": Fault(lambda: _opening(prepares=False)),
    "opening 5: the duplicate window is read from the log alone": Fault(
        _forgets_the_window_when_a_lane_opens_again, only=("lose", "rebalance", "refuse"), within=2_000, first=2_600
    ),
    "opening 5: reading goes on where it stood": Fault(lambda: _opening(seeks=False)),
    "opening 5: records are admitted too early": Fault(lambda: _opening(admits_early=True)),
    "flush 1: no transaction is begun": Fault(lambda: _flushing(2, 3, 4, 5)),
    "flush 2: outputs are not sent": Fault(lambda: _flushing(1, 3, 4, 5)),
    "flush 2: outputs are sent in a transaction of their own": Fault(lambda: _flushing(1, 2, 4, 5, 1, 3, 5)),
    "flush 3: offsets are not sent": Fault(lambda: _flushing(1, 2, 4, 5)),
    "flush 3: offsets are sent in a transaction of their own": Fault(lambda: _flushing(1, 3, 5, 1, 2, 4, 5)),
    "flush 4: nobody waits for what was sent": Fault(lambda: _flushing(1, 2, 3, 5), only=("refuse", "lose")),
    "flush 5: nothing is committed": Fault(lambda: _flushing(1, 2, 3, 4)),
    "launch: a conversation's samples have their step's key": Fault(
        lambda: patch.object(planning, "affinity", lambda context, sample_index: ""), first=50
    ),
    "call: what was begun before is called again": Fault(
        lambda: patch.object(MemoryLedger, "_begin", _knows_no_call_that_was_begun), first=560
    ),
    "handing on: the path ends here as well": Fault(_ends_what_is_handed_on),
    "handing on: how far it had come is not heeded": Fault(lambda: patch.object(Rollout, "_go_on_from", _does_nothing)),
}
