"""Which requests are kept together on a decoder, as turns of one conversation: all but those of one that is no dialogue."""

from collections.abc import Callable, Mapping

from conclave.domain.affinity import conversation_key
from conclave.domain.pacing import TokenBuckets
from schemas.events import ReasoningRequested


class Conversations:
    """Reads a request's conversation from its tag, and lets so many turns a minute of each be kept together.

    What asks more often, such as a program that names all of its requests alike, is spread over all decoders, so that nobody's
    load falls on one alone.
    """

    def __init__(self, tag: str, per_minute: int, share: Callable[[], float]) -> None:
        """`share`, 0 to 1: of all requests that come to this process."""
        self._tag, self._per_minute, self._share = tag, per_minute, share
        self._turns = TokenBuckets(per_minute)

    def kept(self, event: ReasoningRequested, tenant: str, recorded_ms: int) -> tuple[str, Mapping[str, str]]:
        """What its conversation is known by, "" where it has none or is spread; and why. `recorded_ms`: the broker's time."""
        said = event.tags.get(self._tag, "")
        if not said:
            return "", {}
        key = conversation_key(tenant, said)
        if self._turns.take(key, recorded_ms, share=self._share()):
            return key, {}
        return "", {"conversation": f"spread: it has had the {self._per_minute} turns a minute that are kept together"}
