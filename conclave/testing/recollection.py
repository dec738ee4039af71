"""Remembered answers of the database in memory: what `services.decomposer.memory` asks, away, slow and behind as a seed draws."""

from collections.abc import Sequence

from conclave.domain.equivalence import are_same
from conclave.domain.recall import Remembered
from conclave.testing.network import Endpoint, Request
from conclave.testing.record import Database
from schemas.events import AnswerReached, Event, FeedbackGiven, PlanMade
from schemas.values import EndReason


class MemoryRecollection:
    """A decomposer process's way to the answers in a database; it does not see the latest `num_behind` rows."""

    def __init__(self, database: Database, endpoint: Endpoint, *, num_behind: int = 0) -> None:
        self._database, self._endpoint, self._num_behind = database, endpoint, num_behind

    async def newest(self, tokens: Sequence[str], *, by_gist: bool, oldest_ms: int) -> dict[str, Remembered]:
        """The newest answer under each key or gist. Raises: LostDependency."""
        found: dict[str, Remembered] = await self._database.network.request(
            self._endpoint, Request.RECALL, lambda: self._newest(set(tokens), by_gist, oldest_ms)
        )
        return found

    async def spoken_against(self, since_ms: int) -> set[str]:
        """The requests whose answer feedback has called wrong, whenever that was. Raises: LostDependency."""
        found: set[str] = await self._database.network.request(self._endpoint, Request.RECALL, self._against)
        return found

    def _events(self) -> list[tuple[Event, int]]:
        rows = list(self._database.rows.values())
        return [(row.event, row.recorded_ms) for row in rows[: len(rows) - self._num_behind]]

    def _against(self) -> set[str]:
        events = [event for event, _ in self._events()]
        origin = {event.request_id: event.recalled_from for event in events if isinstance(event, PlanMade)}
        spoken = [event for event in events if isinstance(event, FeedbackGiven)]
        return {
            origin.get(each.request_id) or each.request_id
            for each in spoken
            if each.right_answer is not None or (each.reward is not None and each.reward < 0.5)
        }

    def _newest(self, tokens: set[str], by_gist: bool, oldest_ms: int) -> dict[str, Remembered]:
        events = self._events()
        plans = {event.request_id: event for event, _ in events if isinstance(event, PlanMade)}
        found: dict[str, Remembered] = {}
        for event, recorded_ms in events:
            plan = plans.get(event.request_id) if isinstance(event, AnswerReached) else None
            if not isinstance(event, AnswerReached) or plan is None or plan.fingerprint is None:
                continue
            if event.ended_by != EndReason.DECIDED:
                continue
            token = plan.fingerprint.gist if by_gist else plan.fingerprint.key
            earlier = found.get(token)
            if token in tokens and recorded_ms >= oldest_ms and (not earlier or earlier.answered_ms <= recorded_ms):
                found[token] = self._remembered(event, plan.fingerprint.key, recorded_ms)
        return found

    def _remembered(self, event: AnswerReached, key: str, recorded_ms: int) -> Remembered:
        against = self._against()
        rights = [
            each.right_answer
            for each, _ in self._events()
            if isinstance(each, FeedbackGiven) and each.request_id == event.request_id and each.right_answer is not None
        ]
        return Remembered(
            request_id=event.request_id,
            key=key,
            answer=event.answer,
            outcome=event.outcome,
            confidence=event.confidence,
            margin=event.margin,
            agreement=1.0,
            entropy=0.0,
            tally=event.tally,
            tokens_out=event.tokens_out,
            answered_ms=recorded_ms,
            is_disliked=event.request_id in against or any(not are_same(event.answer, each) for each in rights),
        )
