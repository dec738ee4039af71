"""Patterns over UTF-8 bytes that take time linear in the text, whatever the text: RE2 has no backtracking.

A match without groups runs on RE2's DFA, about 2 ns a byte, and without Python's global lock. Our own patterns are compiled when
they are first needed, 0.1 s for all of them: most processes import them and never read a text.
"""

from functools import cached_property
from typing import Any

import re2

_MAX_PATTERN_BYTES = 64 << 20  # so that the tables of a pattern with many words and letters are never thrown away
_FIRST_WINDOW, _GROWTH = 8_192, 8
_MAX_MATCH_BYTES = 20_000
_MAX_GROUPS = 32  # RE2 takes each of them along at every step, two thousand for minutes
_MARGIN = 1_024  # what a window that ends at a match must hold before it, so that no longer window would match later


class BadPattern(Exception):
    """A pattern that RE2 does not take: no regular expression, or one that needs backtracking."""


def compiled(
    pattern: str, *, has_groups: bool = False, ignores_case: bool = True, max_groups: int = _MAX_GROUPS
) -> Any:
    """A pattern on bytes. Raises: BadPattern."""
    options = re2.Options()
    options.max_mem = _MAX_PATTERN_BYTES
    options.log_errors = False
    options.case_sensitive = not ignores_case
    options.never_capture = not has_groups
    try:
        found = re2.compile(pattern, options)
    except re2.error as error:
        raise BadPattern(error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)) from None
    if has_groups and found.groups > max_groups:
        raise BadPattern(f"{found.groups:,} groups; at most {max_groups} are read")
    return found


def whole(data: bytes, start: int) -> int:
    """The first place from `start` on where a character begins: no pattern matches half of one."""
    while start < len(data) and data[start] & 0xC0 == 0x80:
        start += 1
    return start


class Last:
    """Finds where the last match of a pattern ends."""

    def __init__(self, pattern: str, *, ignores_case: bool = True) -> None:
        self._written, self._ignores_case = pattern, ignores_case

    @cached_property
    def _greedy(self) -> Any:
        return compiled(f"(?s).*(?:{self._written})", ignores_case=self._ignores_case)

    def end(self, data: bytes, end: int) -> int:
        """Where the last match within data[:end] ends; -1 when there is none. Windows grow from the end backwards."""
        size = _FIRST_WINDOW
        while True:
            start = whole(data, max(0, end - size))
            match = self._greedy.match(data, start, end)
            if match is not None and (start == 0 or match.end() > start + _MARGIN):
                return int(match.end())
            if start == 0:
                return -1
            size *= _GROWTH

    def ends_at(self, data: bytes, end: int) -> bool:
        """True when a match ends at `end`."""
        return self._greedy.fullmatch(data, whole(data, max(0, end - _MARGIN)), end) is not None


class First:
    """Finds the first match of a pattern."""

    def __init__(self, pattern: str) -> None:
        self._written = pattern

    @cached_property
    def _pattern(self) -> Any:
        return compiled(self._written)

    def span(self, data: bytes, start: int = 0, end: int | None = None) -> tuple[int, int] | None:
        """Where the first match within data[start:end] lies."""
        match = self._pattern.search(data, start, len(data) if end is None else end)
        return None if match is None else match.span()


class Pattern:
    """A pattern of someone's own, of which the last match in a text is wanted. Raises: BadPattern."""

    def __init__(self, pattern: str, *, ignores_case: bool = True) -> None:
        compiled(pattern, has_groups=True)  # by itself: what is no pattern may be a part of one
        self._ending = Last(pattern, ignores_case=ignores_case)
        around = f"(?s).*({pattern})"
        self._greedy = compiled(around, has_groups=True, ignores_case=ignores_case, max_groups=_MAX_GROUPS + 1)

    @property
    def group_names(self) -> tuple[str, ...]:
        """The names of its groups."""
        return tuple(self._greedy.groupindex)

    def last(self, data: bytes, group: str = "") -> tuple[str, int] | None:
        """What the named group, else the first, else the pattern holds where it matches last, and where that match ends."""
        end = self._ending.end(data, len(data))
        if end < 0:
            return None
        match = self._greedy.match(data, whole(data, max(0, end - _MAX_MATCH_BYTES)), end)
        if match is None:
            return None
        value = match.group(group or min(2, self._greedy.groups))
        return (value or b"").decode("utf-8", "replace"), end
