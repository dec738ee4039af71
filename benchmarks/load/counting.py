"""Whether every request that was accepted has ended once, by the log itself."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from conclave.runtime.brokers import Brokers
from conclave.testing.pipeline import read_log
from schemas.events import AnswerReached, RequestFailed
from schemas.flow import Topic


@dataclass(frozen=True, slots=True)
class Counted:
    """Ends in the log, held against what clients know."""

    num_accepted: int
    never: tuple[str, ...]  # accepted, and no end
    twice: tuple[str, ...]  # more ends than one
    num_unknown: int  # ends of requests that no client was told an id of
    num_never_accepted: int  # questions whose client gave up before it was told one: an end of theirs is no surprise

    @property
    def is_once(self) -> bool:
        """True when every accepted request has one end, and nothing else has any."""
        return not self.never and not self.twice and self.num_unknown <= self.num_never_accepted


def counted(ends: Mapping[str, int], accepted: Collection[str], num_never_accepted: int) -> Counted:
    """The figures, of how many ends each request has."""
    return Counted(
        len(accepted),
        tuple(sorted(each for each in accepted if not ends.get(each))),
        tuple(sorted(each for each, number in ends.items() if number > 1)),
        sum(each not in accepted for each in ends),
        num_never_accepted,
    )


async def ends_in_log(brokers: Brokers | str) -> Counter[str]:
    """How many ends each request has in a log that holds this run's alone."""
    found = await read_log(brokers, [Topic.ANSWERS])
    return Counter(event.request_id for _, event, _ in found if isinstance(event, AnswerReached | RequestFailed))
