"""The window of ids that tells a request published twice. Pure.

The log itself is the window: of all records with one id, the one at the lowest offset counts. That holds whatever was
handled when, so a restart that reads the log back comes to the same verdicts.
"""

from collections import OrderedDict


class Window:
    """The ids of the latest `size` records of a partition, each with the lowest offset that it was seen at."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._first: OrderedDict[str, int] = OrderedDict()

    def __contains__(self, key: object) -> bool:
        return key in self._first

    def note(self, key: str, offset: int) -> bool:
        """True when `key` was seen at a lower offset before: the record at `offset` is a duplicate."""
        first = self._first.setdefault(key, offset)
        if offset < first:
            self._first[key] = offset
        while len(self._first) > self._size:
            self._first.popitem(last=False)
        return first < offset
