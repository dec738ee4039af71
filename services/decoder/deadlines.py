"""The samples of a step have one deadline, so they share a timer: one each is a tenth of what a path costs its decoder."""

import asyncio


class StepDeadline:
    """The deadline of a step, of whose samples one at least is being decoded. In `left_s` seconds, or when its step is closed."""

    def __init__(self, left_s: float) -> None:
        self._is_over = False
        self._of_each: set[asyncio.Timeout] = set()
        self._timer = asyncio.get_running_loop().call_later(left_s, self.end_now)

    def of_one(self) -> asyncio.Timeout:
        """That of one of its samples, to be added once it is entered."""
        return asyncio.timeout(0.0 if self._is_over else None)

    def add(self, one: asyncio.Timeout) -> None:
        """One more is decoded."""
        self._of_each.add(one)

    def remove(self, one: asyncio.Timeout) -> bool:
        """One has ended. True when it was the last."""
        self._of_each.discard(one)
        if not self._of_each:
            self._timer.cancel()
        return not self._of_each

    def end_now(self) -> None:
        """Has each end by TimeoutError, and whichever is still added."""
        self._is_over, now_s = True, asyncio.get_running_loop().time()
        for one in self._of_each:
            if not one.expired():
                one.reschedule(now_s)
