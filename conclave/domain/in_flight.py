"""How many sequences an engine is given at once, by how it bears them: additive growth, multiplicative cut. Pure, without a clock.

Chiu and Jain (1989): of all linear rules only this one comes to a fair and efficient point from anywhere; it is TCP's. What
presses is what the engine says of itself: a KV cache above its limit, sequences that it threw out again (preemptions), and
paths that stood in its own queue for much of their time. One cut is enough until as many paths as ran have ended: before, nothing
of it can be seen. Nothing that runs is broken off: whoever is over the limit has not begun, the youngest siblings first.
"""

_CUT = 0.9  # what is left of the limit
_GROWTH = 8.0  # in one round: the time in which as many paths end as may run
_QUEUED_SHARE = 0.25  # of a path's time, in the engine's own queue


class InFlight:
    """See the module's docstring. `limit` lies from `least` to `most`, and begins at `most`: without pressure it stays there."""

    def __init__(self, *, least: int, most: int, kv_cache_use_limit: float) -> None:
        if not 1 <= least <= most:
            raise ValueError(f"1 <= least <= most is expected, got {least} and {most}")
        self._least, self._most, self._kv_limit = least, most, kv_cache_use_limit
        self._limit = float(most)
        self._to_end = 0  # paths, before another cut or growth counts
        self._preemptions = 0
        self._kv_cache_use = 0.0
        self.num_cuts = 0

    @property
    def limit(self) -> int:
        """So many may run at once."""
        return int(self._limit)

    def look(self, *, kv_cache_use: float, preemptions: int, running: int) -> None:
        """What the engine says of itself: `preemptions` since it was started, `running` as it was given them."""
        is_pressed = kv_cache_use >= self._kv_limit or preemptions > self._preemptions
        self._preemptions, self._kv_cache_use = preemptions, kv_cache_use
        if is_pressed:
            self._cut(running)

    def ended(self, *, queued_ms: float, total_ms: float, running: int) -> None:
        """A path has ended that stood `queued_ms` of its `total_ms` in the engine's queue; `running` were there with it."""
        self._to_end = max(0, self._to_end - 1)
        if total_ms > 0 and queued_ms > _QUEUED_SHARE * total_ms:
            self._cut(running)
        elif not self._to_end and running >= self.limit and self._kv_cache_use < self._kv_limit:
            self._limit = min(float(self._most), self._limit + _GROWTH / self._limit)

    def _cut(self, running: int) -> None:
        if self._to_end or running <= self._least:
            return
        self._limit = max(float(self._least), _CUT * min(self._limit, running))
        self._to_end = running
        self.num_cuts += 1
