"""Requests between simulated processes and a server in memory, with latency, and with what can befall them.

A request lives on when its sender is killed or has lost patience: it arrives all the same. What befalls one is drawn from
the seed, or planned by a test: lost on the way there, lost on the way back, or the sender killed at either moment.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from conclave.errors import LostDependency
from conclave.testing.loop import WORLD

LATENCY_S = 0.004
_SLOW_S = 1.0


class Request(StrEnum):
    """What is asked of a broker, a database, or the world around."""

    JOIN = "join"
    HEARTBEAT = "heartbeat"
    LEAVE = "leave"
    FETCH = "fetch"
    OPEN = "open"
    PRODUCE = "produce"
    OFFSETS = "offsets"
    COMMIT = "commit"
    COMMITTED = "committed"
    METADATA = "metadata"
    CLAIM = "claim"
    WRITE = "write"
    RECALL = "recall"
    MAINTAIN = "maintain"
    ENTER = "enter"
    CALL = "call"


class Fate(StrEnum):
    """What befalls a request."""

    OK = "ok"
    LOST_REQUEST = "lost_request"  # it has no effect, and the sender is told that the server is away
    LOST_REPLY = "lost_reply"  # it has its effect, and the sender is told the same
    REFUSED = "refused"  # the server takes no notice, and says so
    KILLED_BEFORE = "killed_before"  # the sender dies with the request under way, and it has no effect
    KILLED_AFTER = "killed_after"  # the sender dies, and it has its effect


@dataclass(slots=True)
class Endpoint:
    """A simulated process as the network knows it."""

    name: str
    kill: Callable[[], None] = lambda: None
    is_cut: bool = False  # dead: nothing that it sends arrives any more
    tasks: "list[asyncio.Task[None]]" = field(default_factory=list)  # of its client library

    def cut(self) -> None:
        """Ends it for the network."""
        self.is_cut = True
        for task in self.tasks:
            task.cancel()


@dataclass(slots=True)
class Plan:
    """A fate that waits for the next request that fits."""

    fate: Fate
    request: Request | None = None
    sender: str = ""  # what the sender's name begins with


class Network:
    """The way to one server and back."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rng: random.Random, server: str) -> None:
        self._loop, self._rng, self._server = loop, rng, server
        self.latency_s = LATENCY_S  # the longest that is usual; one in fifty takes up to a hundred times as long
        self.patience_s = 1.0  # before a sender gives up on a reply
        self.loss = 0.0  # probability of a loss, half of them of the reply
        self.is_away = False
        self.slow_until_s = 0.0  # on the loop's clock: when all that takes unusually long will have arrived
        self.deaf_to: set[tuple[str, Request]] = set()  # requests of these senders are lost
        self.plans: list[Plan] = []
        self.befallen: list[tuple[float, str, Request, Fate]] = []

    def delay_s(self) -> float:
        """A latency drawn from the seed."""
        rng = self._rng
        delay_s = self.latency_s * rng.random() * (100 if rng.random() < 0.02 else 1)
        if delay_s > _SLOW_S:
            self.slow_until_s = max(self.slow_until_s, self._loop.time() + delay_s)
        return delay_s

    def is_clear(self, sender: Endpoint, kind: Request) -> bool:
        """True while nothing can befall a request of this kind but its usual latency."""
        is_open = not (self.plans or self.is_away or self.loss or sender.is_cut)
        return is_open and self.latency_s == LATENCY_S and (sender.name, kind) not in self.deaf_to

    def request(self, sender: Endpoint, kind: Request, effect: Callable[[], Any]) -> "asyncio.Future[Any]":
        """What `effect` returns, or the future that it returns comes to. Raises: LostDependency, and what `effect` does."""
        reply: asyncio.Future[Any] = self._loop.create_future()
        if sender.is_cut:
            _set_exception(reply, LostDependency(self._server, "cut off"))
        else:
            self._loop.call_later(self.delay_s(), self._arrive, sender, kind, effect, reply, context=WORLD)
        return reply

    def _arrive(self, sender: Endpoint, kind: Request, effect: Callable[[], Any], reply: "asyncio.Future[Any]") -> None:
        fate = self._fate(sender, kind)
        if fate is Fate.KILLED_BEFORE:
            sender.kill()
            return
        if fate is Fate.LOST_REQUEST:
            self._fail(reply, "no reply")
            return
        if fate is Fate.REFUSED:
            self._fail(reply, "refused", self.delay_s())
            return
        try:
            result = effect()
        except Exception as error:  # noqa: BLE001  (whatever the server answers)
            self._loop.call_later(self.delay_s(), _set_exception, reply, error, context=WORLD)
            return
        if fate is Fate.KILLED_AFTER:
            sender.kill()
        elif fate is Fate.LOST_REPLY:
            self._fail(reply, "no reply")
        elif isinstance(result, asyncio.Future):
            result.add_done_callback(lambda done: self._pass_on(done, reply), context=WORLD)
        else:
            self._loop.call_later(self.delay_s(), _set_result, reply, result, context=WORLD)

    def _pass_on(self, done: "asyncio.Future[Any]", reply: "asyncio.Future[Any]") -> None:
        if done.cancelled():
            self._fail(reply, "the server dropped it")
        else:
            self._loop.call_later(self.delay_s(), _set_result, reply, done.result(), context=WORLD)

    def _fail(self, reply: "asyncio.Future[Any]", why: str, delay_s: float | None = None) -> None:
        delay_s = self._rng.random() * self.patience_s if delay_s is None else delay_s
        self._loop.call_later(delay_s, _set_exception, reply, LostDependency(self._server, why), context=WORLD)

    def _fate(self, sender: Endpoint, kind: Request) -> Fate:
        fate = Fate.OK
        if self.plans:
            for plan in self.plans:
                if plan.request in (None, kind) and sender.name.startswith(plan.sender):
                    self.plans.remove(plan)
                    fate = plan.fate
                    break
        if fate is Fate.OK and (self.is_away or (sender.name, kind) in self.deaf_to):
            return Fate.LOST_REQUEST
        if fate is Fate.OK and self.loss and self._rng.random() < self.loss:
            fate = Fate.LOST_REQUEST if self._rng.random() < 0.5 else Fate.LOST_REPLY
        if fate is not Fate.OK:
            self.befallen.append((self._loop.time(), sender.name, kind, fate))
        return fate


def _set_result(reply: "asyncio.Future[Any]", result: Any) -> None:
    if not reply.done():
        reply.set_result(result)


def _set_exception(reply: "asyncio.Future[Any]", error: Exception) -> None:
    if not reply.done():
        reply.set_exception(error)
        reply.exception()  # seen: a failure that nobody awaits any more is no fault of the sender's
