"""Which requests were published twice: a window of ids for each lane, read back from the log when the lane opens."""

from collections.abc import Container

from conclave.errors import Rejected
from conclave.runtime import dead_letters
from conclave.runtime.broker import Broker
from conclave.runtime.deduplication import Window
from conclave.runtime.lane import Lane
from conclave.runtime.record import Record, Tp
from conclave.runtime.translation import RequestKey, Translator
from schemas.codec import UnreadableEvent
from schemas.envelope import header

_POLL_MS = 200


class Duplicates:
    """The windows of one service's lanes. Without a `key_of` there is nothing to tell, and nothing is read."""

    def __init__(self, broker: Broker, translator: Translator, key_of: RequestKey | None, size: int) -> None:
        self._broker, self._translator, self._size = broker, translator, size
        self._key_of = key_of if size else None
        self._windows: dict[Tp, Window] = {}

    def seen(self, tp: Tp) -> Container[str]:
        """The ids in a lane's window."""
        return self._windows.get(tp, ())

    def forget(self, tp: Tp) -> None:
        """Drops the window of a lane that is no longer this process's."""
        self._windows.pop(tp, None)

    async def read_back(self, lane: Lane) -> None:
        """Fills the lane's window with the ids of the latest records below its watermark. Raises: LostDependency."""
        if self._key_of is None:
            return
        # Kept when the lane opens again: what it holds of records above the watermark is not read back.
        self._windows.setdefault(lane.tp, Window(self._size))
        reader = self._broker.log_reader()
        try:
            await reader.start()
            begin = max((await reader.begin_offsets([lane.tp]))[lane.tp], lane.tracker.low - self._size)
            reader.assign({lane.tp: begin})
            while await reader.position(lane.tp) < lane.tracker.low:
                for record in await reader.poll(timeout_ms=_POLL_MS):
                    if record.offset < lane.tracker.low:
                        self.is_one(lane.tp, record)
        finally:
            await reader.stop()

    def is_one(self, tp: Tp, record: Record) -> bool:
        """True when the record repeats an earlier one; notes its id. A replayed dead letter is a request of its own."""
        window = self._windows.get(tp)
        if window is None or self._key_of is None:
            return False
        try:
            key = self._key_of(self._translator.read(record), self._translator.arrival(record))
        except (UnreadableEvent, Rejected):
            return False
        replayed = header(record.headers, dead_letters.REPLAY_HEADER) or ""
        return key is not None and window.note(key + replayed, record.offset)
