"""A judge of formulas in processes that can be killed: asked without waiting (`known`) or with (`decided`), its words cached.

Each thread has a process of its own (conclave.judges.math_worker), in which what takes too long is ended; the pair then counts as
not the same. One that says nothing all the same is killed, and another started. Not more than so many pairs wait at once; who asks
for more hears that nothing is known yet, and asks again.
"""

import importlib.util
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from collections import OrderedDict

import structlog

from conclave.judges.words import OUT_OF_TIME, READY, WALL_FACTOR

_START_LIMIT_S = 60.0
_SPARE_S = 5.0  # after its own limits, before a process that says nothing is killed
_VERDICTS = {b"1": True, b"0": False, OUT_OF_TIME.encode(): None}
_MAX_WAITING = 4_096
_MAX_CACHED = 65_536
_PACKAGE = "math_verify"

Pair = tuple[str, str]

log = structlog.get_logger(__name__)


class JudgePool:
    """See the module's docstring. Of use from any thread; nothing runs before it is asked for the first pair."""

    def __init__(self, *, limit_s: float = 2.0, num_processes: int = 1) -> None:
        """`limit_s` is CPU time a pair. Without the package (extra `math`) all pairs count as not the same, which is said once."""
        self._limit_s, self._num_processes = limit_s, num_processes
        self._lock = threading.Condition()
        self._waiting: queue.SimpleQueue[Pair | None] = queue.SimpleQueue()
        self._open: set[Pair] = set()
        self._verdicts: OrderedDict[Pair, bool] = OrderedDict()
        self._workers: list[_Worker] = []
        self.is_there = importlib.util.find_spec(_PACKAGE) is not None
        self._is_said = self._is_closed = False
        self.num_asked = self.num_out_of_time = 0
        self.longest_s = 0.0

    def known(self, one: str, other: str) -> bool | None:
        """Whether two formulas are the same; None while it is being found out."""
        pair = (one, other) if one <= other else (other, one)
        with self._lock:
            if (verdict := self._verdicts.get(pair)) is not None:
                self._verdicts.move_to_end(pair)
                return verdict
            if not self.is_there or self._is_closed:
                self._say_it_is_missing()
                return False
            if pair not in self._open and len(self._open) < _MAX_WAITING:
                self._start()
                self._open.add(pair)
                self._waiting.put(pair)
        return None

    def decided(self, one: str, other: str) -> bool:
        """The same, waited for: each pair before it may take as long as its limit."""
        with self._lock:
            while (verdict := self.known(one, other)) is None:
                self._lock.wait(1.0)
        return verdict

    def close(self) -> None:
        """Ends all processes; what still waits counts as not the same."""
        with self._lock:
            self._is_closed = True
            self._open.clear()
            self._lock.notify_all()
        for worker in self._workers:
            worker.kill()
            self._waiting.put(None)
        for worker in self._workers:
            worker.join(timeout=5.0)

    def _say_it_is_missing(self) -> None:
        if not self.is_there and not self._is_said:
            self._is_said = True
            log.warning(
                "judge_missing",
                package=_PACKAGE,
                remedy="install conclave[math]; formulas are told apart as by short_answer",
            )

    def _start(self) -> None:
        while len(self._workers) < self._num_processes:
            worker = _Worker(self, self._waiting, self._limit_s)
            self._workers.append(worker)
            worker.start()

    def note(self, pair: Pair, verdict: bool | None, seconds: float) -> None:
        """Takes a worker's word in; None of a pair that ran out of time."""
        with self._lock:
            self.num_asked += 1
            self.num_out_of_time += verdict is None
            self.longest_s = max(self.longest_s, seconds)
            self._open.discard(pair)
            self._verdicts[pair] = bool(verdict)
            while len(self._verdicts) > _MAX_CACHED:
                self._verdicts.popitem(last=False)
            self._lock.notify_all()
        if verdict is None:
            log.warning("judge_out_of_time", seconds=round(seconds, 2))


class _Worker(threading.Thread):
    """A thread with a process; it hands pairs over one by one."""

    def __init__(self, pool: JudgePool, waiting: "queue.SimpleQueue[Pair | None]", limit_s: float) -> None:
        super().__init__(name="judge", daemon=True)
        self._pool, self._waiting, self._limit_s = pool, waiting, limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._is_killed = False

    def run(self) -> None:
        while (pair := self._waiting.get()) is not None and not self._is_killed:
            started = time.monotonic()
            try:
                process = self._ready()
                started = time.monotonic()
                word = self._word(process, json.dumps(pair).encode() + b"\n", WALL_FACTOR * self._limit_s + _SPARE_S)
            except OSError as error:
                log.warning("judge_lost", error=repr(error)[:300])
                word = None
            if word not in _VERDICTS:
                self._end()
            self._pool.note(pair, None if word is None else _VERDICTS.get(word), time.monotonic() - started)
        self._end()

    def kill(self) -> None:
        """Ends the process; the thread ends after its next pair."""
        self._is_killed = True
        if self._process is not None:
            self._process.kill()

    def _ready(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "conclave.judges.math_worker", str(self._limit_s)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONHASHSEED": "0"},  # in which order SymPy tries things is the same each time
                bufsize=0,
            )
            if self._word(self._process, b"", _START_LIMIT_S) != READY.encode():
                raise OSError("the judge's process did not start")
        return self._process

    @staticmethod
    def _word(process: "subprocess.Popen[bytes]", line: bytes, limit_s: float) -> bytes | None:
        """The next line of the process, once `line` has been handed to it; None when none comes in time."""
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line)
        said, until = b"", time.monotonic() + limit_s
        while not said.endswith(b"\n"):
            left_s = until - time.monotonic()
            if left_s <= 0 or not select.select([process.stdout], [], [], left_s)[0]:
                return None
            chunk = process.stdout.read(64)
            if not chunk:
                return None
            said += chunk
        return said.strip()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
