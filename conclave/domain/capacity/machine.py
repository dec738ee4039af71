"""Cores that all who have work share alike, and a clock that jumps from one thing that happens to the next.

Processor sharing: of n threads with work each runs at min(1, cores / n). As all run equally fast, one virtual time (how much each
has been served) tells for all of them when they are done (Parekh & Gallager 1993, for links).
"""

import heapq
from collections import deque
from collections.abc import Callable
from functools import partial

Then = Callable[[], None]


class Machine:
    """A clock, and cores. What is due at one moment happens in the order in which it was asked for."""

    def __init__(self, cores: float) -> None:
        self.now_s = 0.0
        self._cores = cores
        self._served_s = 0.0  # CPU that each thread with work has had since the beginning
        self._running: list[tuple[float, int, Then]] = []  # by how much service has been given when they are done
        self._due: list[tuple[float, int, Then]] = []
        self._num_asked = 0

    def compute(self, cpu_s: float, then: Then) -> None:
        """A thread of its own works so long, by the CPU's clock."""
        heapq.heappush(self._running, (self._served_s + cpu_s, self._next(), then))

    def later(self, seconds: float, then: Then) -> None:
        """Something happens after a time, without CPU."""
        heapq.heappush(self._due, (self.now_s + seconds, self._next(), then))

    def run(self, until: Callable[[], bool]) -> None:
        """Goes on until that holds, or nothing is left to happen."""
        while not until() and (self._running or self._due):
            self._step()

    def _step(self) -> None:
        speed = min(1.0, self._cores / len(self._running)) if self._running else 0.0
        done_s = self.now_s + (self._running[0][0] - self._served_s) / speed if self._running else float("inf")
        due_s = self._due[0][0] if self._due else float("inf")
        at_s = min(done_s, due_s)
        self._served_s += (at_s - self.now_s) * speed
        self.now_s = at_s
        _, _, then = heapq.heappop(self._running if done_s <= due_s else self._due)
        then()

    def _next(self) -> int:
        self._num_asked += 1
        return self._num_asked


class Process:
    """One thread: what it is given to compute, it computes one after the other."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._waiting: deque[tuple[float, Then]] = deque()
        self._is_busy = False
        self.busy_s = 0.0

    def compute(self, cpu_s: float, then: Then) -> None:
        """Works so long, once what came before is done."""
        self._waiting.append((cpu_s, then))
        if not self._is_busy:
            self._start()

    def _start(self) -> None:
        self._is_busy = True
        cpu_s, then = self._waiting.popleft()
        self.busy_s += cpu_s
        self._machine.compute(cpu_s, partial(self._ended, then))

    def _ended(self, then: Then) -> None:
        self._is_busy = False
        then()
        if self._waiting and not self._is_busy:
            self._start()
