"""How much may be begun, by what is open already; and how often somebody may ask urgently. Pure.

What waits in the log can't be overtaken, so little is let into it: samples are launched only while fewer are open than the
decoders read ahead. All that waits beyond that waits before the door, where whose turn it is can be decided.
"""

from collections import OrderedDict
from collections.abc import Callable

_URGENT_SHARE = 0.25  # of the room: may be launched beyond it by what is most urgent
_KEPT_TENANTS = 10_000
_MINUTE_MS = 60_000


class Room:
    """So many samples may be launched now. `limit` is how many may be open for each decoder that there is.

    What is open is counted in the log now and then, by all who launch. What a launcher has launched itself, and the log does not
    show yet, it adds by keys of its own: so nothing is counted twice, and nothing missed however long its transaction takes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._whole = 0.0
        self._left = 0.0  # nothing, until it was counted
        self._under_way: dict[str, int] = {}  # launched, and not known to be in the log

    @property
    def left(self) -> float:
        """How many more may be launched; below 0 when more were."""
        return self._left

    @property
    def is_low(self) -> bool:
        """True when it is time to count again."""
        return self._left <= self._whole / 2

    def is_open(self, *, is_urgent: bool = False) -> bool:
        """True while some may be launched. What is urgent may go beyond, so that it waits for nobody's path to end."""
        return self._left > (-_URGENT_SHARE * self._whole if is_urgent else 0.0)

    def expected(self, num_samples: float) -> None:
        """Takes note of samples that are about to be launched; fewer than 0 take that back."""
        self._left -= num_samples

    def launched(self, key: str, num_samples: int) -> None:
        """Takes note of samples that are launched under a key."""
        self._left -= num_samples
        self._under_way[key] = num_samples

    def in_log(self, is_there: Callable[[str], bool]) -> None:
        """Takes note of which keys' samples the log shows: to be told before what is open is counted, not after."""
        self._under_way = {key: num for key, num in self._under_way.items() if not is_there(key)}

    def counted(self, num_open: int, *, num_decoders: int, share: float, expected: float = 0.0) -> None:
        """Takes note of how many samples are open in the log, and how many are about to be launched.

        `share`, 0 to 1: how much of the room is this process's.
        """
        self._whole = share * self._limit * max(1, num_decoders)
        self._left = self._whole - share * num_open - sum(self._under_way.values()) - expected


class TokenBuckets:
    """How often each tenant may have something: `per_minute` on average, and no more than that at once; a token bucket each.

    The clock is an argument, and may go back: records are not read in the order of their times.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._buckets: OrderedDict[str, tuple[float, int]] = (
            OrderedDict()
        )  # what is left, and since when; latest used last

    def take(self, tenant: str, now_ms: int, *, share: float = 1.0) -> bool:
        """True where the tenant may have one more. `share`, 0 to 1: of all requests that this process sees."""
        most = self._per_minute * share
        if most <= 0:
            return False
        most = max(1.0, most)
        left, since_ms = self._buckets.get(tenant, (most, now_ms))
        left = min(most, left + max(0, now_ms - since_ms) * most / _MINUTE_MS)
        may = left >= 1.0
        self._buckets[tenant] = (left - may, max(since_ms, now_ms))
        self._buckets.move_to_end(tenant)
        if len(self._buckets) > _KEPT_TENANTS:
            self._buckets.popitem(last=False)
        return may
