"""What a stretch of work takes of the machine: joules of processor and cards, and how much of its cards it uses."""

import statistics
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from benchmarks.cards import Card, cards, joules_between
from benchmarks.load.machine import joules


class Meter:
    """Reads what the machine tells when it is entered, now and then, and when it is left; in a thread of its own."""

    def __init__(self, *, every_s: float = 0.5) -> None:
        self._every_s = every_s
        self._cards: list[tuple[Card, ...]] = []
        self._processor: list[float | None] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._read_on, name="meter", daemon=True)

    def __enter__(self) -> Self:
        self._read()
        if self._cards[0]:  # what a processor has taken is told by its first and last reading
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()
        self._read()

    def told(self, num_answers: int) -> dict[str, object]:
        """Joules for each answer, and the cards' use and memory. Only what the machine tells: nothing where it tells nothing."""
        found: dict[str, object] = {}
        first, last = self._processor[0], self._processor[-1]
        if first is not None and last is not None and last >= first:
            found["processor_joules_each"] = (last - first) / num_answers
        if (of_cards := joules_between(self._cards[0], self._cards[-1])) is not None:
            found["card_joules_each"] = of_cards / num_answers
        if self._cards[0]:
            found["cards"] = [_over_time(each) for each in zip(*self._cards, strict=False)]
        return found

    def _read_on(self) -> None:
        while not self._is_over.wait(self._every_s):
            self._read()

    def _read(self) -> None:
        self._cards.append(cards())
        self._processor.append(joules())


def _over_time(card: Sequence[Card]) -> dict[str, object]:
    uses = [each.use for each in card if each.use is not None]
    memory = [each.memory_mib for each in card if each.memory_mib is not None]
    found: dict[str, object] = {"name": card[0].name}
    if uses:
        found |= {"use_mean": statistics.fmean(uses), "use_deviation": statistics.pstdev(uses)}
    if memory:
        found |= {"memory_mib_mean": statistics.fmean(memory), "memory_mib_most": max(memory)}
    return found
