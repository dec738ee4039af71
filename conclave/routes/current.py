"""The router of a running service: checked at start, followed as its files change, never replaced by a wrong one."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from conclave.domain.routing import Choice, Meter, Streaks, route
from conclave.errors import Misconfigured, WrongSetting
from conclave.file_states import LOOKED_AT_EVERY_S, FileState, states_of
from conclave.policies import PolicySet, Problem
from conclave.routes import Read, load
from schemas.values import Policy

log = structlog.get_logger(__name__)


class CurrentRouter:
    """The last good version of the router of one name, with what it has seen: its switches, and what it has given out."""

    def __init__(
        self,
        name: str,
        *folders: Path,
        policies: Callable[[], PolicySet],
        tokens_last_hour: Callable[[], float | None] = lambda: None,
    ) -> None:
        """`policies` says which there are now, `tokens_last_hour` what the record knows of what was generated.

        Raises: Misconfigured, listing everything that is wrong with any file.
        """
        self._name, self._folders, self._policies = name, folders, policies
        self._tokens_last_hour = tokens_last_hour
        self._streaks, self._meter = Streaks(), Meter()
        self._seen = self._signature()
        found, self._problems = self._load()
        if self._problems or found is None:
            raise Misconfigured([WrongSetting(_place(each), each.expected, each.got) for each in self._problems])
        self._read = found

    def choose(self, question: str, tags: Mapping[str, str], *, tenant: str, at: str, now_ms: int) -> Choice:
        """What the router gives a request that lies at `at` in the log."""
        router = self._read.router
        pressure = self._meter.pressure(router.limits, now_ms, self._tokens_last_hour())
        return route(
            router,
            question,
            tags,
            tenant=tenant,
            at=at,
            classifier=self._read.classifier,
            pressure=pressure,
            streaks=self._streaks,
        )

    def note(self, policy: Policy, now_ms: int) -> None:
        """Counts a request that was given this policy, by whomever, towards the load."""
        if policy.name not in self._read.router.limits.cheap:
            self._meter.note(now_ms)

    def status(self) -> dict[str, object]:
        """What /ready says: the router in use, and why changed files are not."""
        router = self._read.router
        refused: dict[str, object] = (
            {"routes_refused": [str(each) for each in self._problems]} if self._problems else {}
        )
        return {"router": f"{router.name}@{router.version} {router.digest}"} | refused

    async def follow(self) -> None:
        """Looks at the files every few seconds, for ever."""
        while True:
            await asyncio.sleep(LOOKED_AT_EVERY_S)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Takes over what has changed since; a set with anything wrong is refused as a whole, and said so."""
        signature = self._signature()
        if signature == self._seen:
            return
        self._seen = signature
        found, self._problems = self._load()
        if self._problems or found is None:
            log.error("routes_refused", problems=[str(each) for each in self._problems])
            return
        self._read = found
        log.info("routes_loaded", router=self._name, digest=found.router.digest)

    def _load(self) -> tuple[Read | None, list[Problem]]:
        found, problems = load(*self._folders, policies=self._policies())
        read = found.rows.get(self._name)
        if read is None and not problems:
            problems.append(Problem("CONCLAVE_ROUTER", "", f"one of {', '.join(found.names)}", self._name))
        return read, problems

    def _signature(self) -> tuple[FileState, ...]:
        """What changes whenever a router, a classifier or a policy does."""
        policies = ((read.policy.digest, 0, 0) for read in self._policies())
        return (*policies, *states_of(self._folders, "*.toml", "*.json"))


def _place(problem: Problem) -> str:
    return f"{problem.file}: {problem.field}" if problem.field else problem.file
