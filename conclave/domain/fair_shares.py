"""Who of several that have work is served next, so that each gets its share. Pure.

Weighted fair queueing by start tags (Demers, Keshav and Shenker, 1989; Goyal, Vin and Cheng, 1996): everyone has a tag, at which
its next piece of work is due in virtual time; the smallest is served, and its tag grows by the cost of the work over its weight.
Virtual time grows by the same cost over the weights of all who have work, up to the largest of their tags: it is what each of them
has had. Whoever has work again after a while starts at virtual time: idling saves nothing up, and costs nothing.

While two have work all the time, what they got over their weights differs by no more than the cost of one piece of each over its
weight (Goyal, Vin and Cheng, theorem 1), however many others come and go. A cost that is only known afterwards is guessed and put
right: then the bound holds for the guesses, and what has been put right for all that has ended, as with the virtual token counter
(Sheng et al., 2024, algorithm 2).
"""

from collections.abc import Callable

_KEPT_IDLE = 64  # tags of who has no work, before those are forgotten that joining would lift anyway


class FairShares:
    """See the module's docstring. `weight` is a name's share, above 0 and always the same."""

    def __init__(self, weight: Callable[[str], float]) -> None:
        self._weight = weight
        self._tags: dict[str, float] = {}
        self._busy: dict[str, None] = {}  # who has work, in the order of joining
        self._now = 0.0  # virtual time

    def join(self, who: str) -> None:
        """`who` has work, from now on. Twice is as good as once."""
        if who not in self._busy:
            self._busy[who] = None
            self._tags[who] = max(self._tags.get(who, self._now), self._now)

    def leave(self, who: str) -> None:
        """`who` has no more work. Once nobody has any, all are even."""
        self._busy.pop(who, None)
        if not self._busy:
            self.even_out()
        elif len(self._tags) > 2 * len(self._busy) + _KEPT_IDLE:
            self._tags = {name: tag for name, tag in self._tags.items() if name in self._busy or tag > self._now}

    def even_out(self) -> None:
        """Forgets what everyone has had, and begins time anew: tags are as exact then as at first. For when nobody has work."""
        self._tags.clear()
        self._now = 0.0

    def first(self) -> str | None:
        """Who is next; None when nobody has work. Among equals the heavier, then the earlier."""
        return min(self._busy, key=lambda name: (self._tags[name], -self._weight(name)), default=None)

    def charge(self, who: str, cost: float) -> None:
        """Counts work of `who`, begun or put right; a cost below 0 gives back."""
        self._tags[who] = self._tags.get(who, self._now) + cost / self._weight(who)
        if cost > 0 and self._busy:
            grown = self._now + cost / sum(map(self._weight, self._busy))
            self._now = max(self._now, min(grown, max(self._tags[name] for name in self._busy)))
