"""An engine whose KV cache is smaller than what it may be given, in steps: what the number in flight does to it.

The model is vLLM's scheduler in short: every running sequence takes a token a step and a place in the cache for each; where
the cache is full the youngest is thrown out, and its tokens are computed again once there is room. A step takes a fixed time,
one for each sequence, and one for each token that is computed at once (prompts, and what was thrown out). It says nothing of
a particular card.
"""

from collections import deque
from dataclasses import dataclass

from conclave.engine.protocol import EngineLoad

_STEP_MS, _SEQUENCE_MS, _PREFILL_TOKEN_MS = 10.0, 0.2, 0.05


@dataclass(eq=False, slots=True)
class Sequence:
    """A path under way: its lengths in tokens, how many were generated, and since when it is in the engine."""

    prompt: int
    length: int
    began_ms: float
    generated: int = 0
    queued_ms: float = 0.0
    waits_since_ms: float | None = None

    @property
    def held(self) -> int:
        """Places in the cache."""
        return self.prompt + self.generated


class CacheBoundEngine:
    """See the module's docstring."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._running: list[Sequence] = []
        self._queue: deque[Sequence] = deque()
        self.now_ms = 0.0
        self.num_preempted = 0
        self.num_computed_again = 0  # tokens

    def load(self) -> EngineLoad:
        """What it says of itself."""
        return EngineLoad(len(self._running), len(self._queue), self._held / self._capacity, self.num_preempted)

    @property
    def num_running(self) -> int:
        """Sequences that hold a place."""
        return len(self._running)

    @property
    def _held(self) -> int:
        return sum(each.held for each in self._running)

    def add(self, prompt: int, length: int) -> Sequence:
        """A path, in the engine's own queue until the next step."""
        sequence = Sequence(prompt, length, self.now_ms, waits_since_ms=self.now_ms)
        self._queue.append(sequence)
        return sequence

    def thrown_out(self) -> list[Sequence]:
        """Those that had begun, and wait for a place again."""
        return [each for each in self._queue if each.generated]

    def youngest(self, number: int) -> list[Sequence]:
        """So many of those that were taken in last, and those thrown out before them."""
        return [*reversed(self._queue), *reversed(self._running)][: max(0, number)]

    def cut(self, sequence: Sequence) -> None:
        """Takes a path out with what was generated of it."""
        (self._queue if sequence in self._queue else self._running).remove(sequence)

    def go_on(self, sequence: Sequence) -> None:
        """Takes one in again that was cut; what was generated of it is computed again."""
        sequence.waits_since_ms = self.now_ms
        self._queue.append(sequence)

    def step(self) -> list[Sequence]:
        """One step; the sequences that have come to their end with it."""
        computed = self._take_in()
        while self._held + len(self._running) > self._capacity and len(self._running) > 1:
            thrown = self._running.pop()
            thrown.waits_since_ms = self.now_ms
            self._queue.appendleft(thrown)
            self.num_preempted += 1
        self.now_ms += _STEP_MS + _SEQUENCE_MS * len(self._running) + _PREFILL_TOKEN_MS * computed
        for each in self._running:
            each.generated += 1
        ended = [each for each in self._running if each.generated >= each.length]
        self._running = [each for each in self._running if each.generated < each.length]
        return ended

    def _take_in(self) -> int:
        """Gives those that wait their places, while there are any; how many tokens have to be computed for it."""
        computed = 0
        while self._queue and (not self._running or self._held + self._queue[0].held < self._capacity):
            sequence = self._queue.popleft()
            assert sequence.waits_since_ms is not None, "what waits has begun to"
            sequence.queued_ms += self.now_ms - sequence.waits_since_ms
            sequence.waits_since_ms = None
            computed += sequence.held
            self.num_computed_again += sequence.generated
            self._running.append(sequence)
        return computed
