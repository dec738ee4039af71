"""What a service says of a dependency that its handler misses for a while."""

from collections.abc import Mapping, Sequence

from conclave.errors import LostDependency
from conclave.runtime.attempts import Dependencies, Missed
from conclave.runtime.dead_letters import Cause
from conclave.runtime.handler import Arrival
from conclave.runtime.work import Handles
from conclave.testing import events as made
from conclave.testing.services import outputs_of
from schemas.events import Event, SampleRequested


class Forgetful:
    """A handler that misses the database at first."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies
        self.away: list[Mapping[str, str]] = []

    async def handle(self, event: Event, arrival: Arrival) -> Sequence[Event]:
        self.away.append(self._dependencies.away)
        if len(self.away) < 3:
            raise LostDependency("postgres", "it is being started again")
        return ()

    def give_up(self, event: Event, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        return ()

    def unreadable(self, value: bytes | None, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        return ()


def test_what_a_handler_missed_is_back_once_its_event_is_handled() -> None:
    dependencies = Dependencies()
    handler = Forgetful(dependencies)
    outputs_of(
        "decoder",
        Handles(handler),
        [SampleRequested(context=made.context(), sample_index=0, launched=1)],
        dependencies=dependencies,
    )
    gone = {"postgres": "it is being started again"}
    assert handler.away == [{}, gone, gone]
    assert dependencies.away == {}, "the service says for ever that PostgreSQL is away, and is not ready"


def test_a_dependency_is_away_while_any_event_misses_it() -> None:
    dependencies = Dependencies()
    missed, one, other = Missed(dependencies), set[str](), set[str]()
    for each in (one, other, one):
        missed.miss(LostDependency("postgres", "away"), each)
    missed.no_more(one)
    assert "postgres" in dependencies.away
    missed.no_more(other)
    assert not dependencies.away
