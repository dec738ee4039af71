"""An event loop in virtual time: when nothing is ready, its clock jumps to the next timer.

Waiting costs nothing, no descriptor is opened, and what runs is the same for the same arguments: a schedule of minutes
takes milliseconds. Each callback belongs to the simulated process in whose context it was made; while a process is
frozen its callbacks are kept back, as SIGSTOP does.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any

# The simulated process that runs; "" for the world around them.
PROCESS: ContextVar[str] = ContextVar("process", default="")
WORLD = Context()  # belongs to no process: what runs in it is never frozen


class Standstill(AssertionError):
    """Nothing is ready and no timer is set, so what is waited for can never happen."""


class _Callback:
    """What asyncio calls a handle, with what is used of one: a simulation makes thousands."""

    __slots__ = ("args", "callback", "context", "is_cancelled", "when_s")

    def __init__(self, when_s: float, callback: Callable[..., object], args: tuple[Any, ...], context: Context) -> None:
        self.when_s, self.callback, self.args, self.context = when_s, callback, args, context
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        return self.when_s


class VirtualLoop(asyncio.AbstractEventLoop):
    """Runs coroutines to their end in virtual time. It has timers, futures and tasks, and no I/O."""

    def __init__(self) -> None:
        self._now = 0.0
        self._ready: deque[_Callback] = deque()
        self._timers: list[tuple[float, int, _Callback]] = []
        self._num_timers = 0
        self._kept_back: dict[str, list[_Callback]] = {}
        self._is_running = False
        self.complaints: list[dict[str, Any]] = []  # what call_exception_handler was told
        self.num_callbacks = 0

    # -- time ---------------------------------------------------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def freeze(self, process: str) -> None:
        """Keeps the callbacks of a process back until `thaw`."""
        self._kept_back.setdefault(process, [])

    def thaw(self, process: str) -> None:
        """Has a frozen process go on where it stood."""
        self._ready.extend(self._kept_back.pop(process, ()))

    # -- running ------------------------------------------------------------------------------------------------------

    def run_until_complete(self, future: Coroutine[Any, Any, Any]) -> Any:  # type: ignore[override]
        """The result of a coroutine. Tasks that are left when it ends are cancelled. Raises: Standstill."""
        try:
            return self.run(future)
        finally:
            self.end()

    def run(self, future: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine. Other tasks stay where they are until the next `run`. Raises: Standstill."""
        asyncio._set_running_loop(self)
        self._is_running = True
        try:
            task = self.create_task(future, name="main")
            while not task.done():
                self._step()
            return task.result()
        finally:
            self._is_running = False
            asyncio._set_running_loop(None)

    def end(self) -> None:
        """Cancels all tasks, and returns once they have ended."""
        for process in list(self._kept_back):
            self.thaw(process)
        left = [task for task in asyncio.all_tasks(self) if not task.done()]
        for task in left:
            task.cancel()
        if left:
            self.run(_all_ended(left))

    def _step(self) -> None:
        ready, timers, kept_back = self._ready, self._timers, self._kept_back
        if not ready:
            while timers and timers[0][2].is_cancelled:
                heapq.heappop(timers)
            if not timers:
                raise Standstill("nothing is ready and no timer is set")
            if timers[0][0] > self._now:
                self._now = timers[0][0]
        while timers and timers[0][0] <= self._now:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            callback = ready.popleft()
            if callback.is_cancelled:
                continue
            if kept_back:
                process = callback.context.get(PROCESS, "")
                if process in kept_back:
                    kept_back[process].append(callback)
                    continue
            self.num_callbacks += 1
            try:
                callback.context.run(callback.callback, *callback.args)
            except Exception as error:  # noqa: BLE001  (as every loop does: told, and the others go on)
                self.call_exception_handler({"message": f"in {callback.callback}", "exception": error})

    # -- what asyncio asks of a loop ----------------------------------------------------------------------------------

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        """Runs `callback` in the next round."""
        entry = _Callback(self._now, callback, args, copy_context() if context is None else context)
        self._ready.append(entry)
        return entry

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        """Runs `callback` in `delay` virtual seconds."""
        when = self._now + delay
        entry = _Callback(when, callback, args, copy_context() if context is None else context)
        self._num_timers += 1
        heapq.heappush(self._timers, (when, self._num_timers, entry))
        return entry

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        """Runs `callback` at a virtual time."""
        entry = _Callback(when, callback, args, copy_context() if context is None else context)
        self._num_timers += 1
        heapq.heappush(self._timers, (when, self._num_timers, entry))
        return entry

    def create_future(self) -> "asyncio.Future[Any]":
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **kwargs: Any) -> "asyncio.Task[Any]":
        """A task of this loop."""
        return asyncio.Task(coro, loop=self, **kwargs)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keeps what went wrong where nobody awaited it."""
        self.complaints.append(context)

    def is_running(self) -> bool:
        """True inside `run`."""
        return self._is_running

    def is_closed(self) -> bool:
        """False: there is nothing to close."""
        return False

    def get_debug(self) -> bool:
        """False."""
        return False


async def _all_ended(tasks: "list[asyncio.Task[Any]]") -> None:
    await asyncio.wait(tasks)
