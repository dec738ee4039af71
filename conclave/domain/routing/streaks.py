"""Switches that flip only after some matches in a row, for each scope (a conversation, a tenant): one spike changes nothing.

What a process has seen is all that it counts: the requests of a scope are shared out among partitions and so among processes,
and a restart begins with every switch off.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

Scope = tuple[str, str]  # a tenant, and the value of the tag that a router counts by

MAX_SCOPES = 10_000
_REMEMBERED = 32  # records of a scope that are known again when they are read once more


@dataclass(slots=True)
class Streak:
    """A switch of one rule in one scope. `run` counts what in a row speaks for the other position."""

    is_on: bool = False
    run: int = 0


@dataclass(slots=True)
class _Scope:
    streaks: dict[str, Streak] = field(default_factory=dict)
    counted: deque[str] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))


class Streaks:
    """The switches of all scopes, of the latest `MAX_SCOPES`."""

    def __init__(self, max_scopes: int = MAX_SCOPES) -> None:
        self._max_scopes = max_scopes
        self._scopes: OrderedDict[Scope, _Scope] = OrderedDict()

    def count(self, scope: Scope, matches: dict[str, bool], needed: dict[str, int], at: str) -> dict[str, Streak]:
        """The switch of each rule after one more question, which lies at `at` in the log: read again, it is not counted again."""
        known = self._scopes.setdefault(scope, _Scope())
        self._scopes.move_to_end(scope)
        while len(self._scopes) > self._max_scopes:
            self._scopes.popitem(last=False)
        is_new = at not in known.counted
        if is_new:
            known.counted.append(at)
        for rule, is_match in matches.items():
            streak = known.streaks.setdefault(rule, Streak())
            if is_new:
                streak.run = streak.run + 1 if is_match is not streak.is_on else 0
                if streak.run >= needed[rule]:
                    streak.is_on, streak.run = not streak.is_on, 0
        return {rule: known.streaks[rule] for rule in matches}
