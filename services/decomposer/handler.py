"""A request in; its plan and the first samples out.

no id, an idempotency key elsewhere  ->  the same request under that key: equal ones come into one partition
no id                                ->  the same request under an id of its own, to come back in its own partition
an id that is not its record's key   ->  the same request under its id
else                                 ->  PlanMade + the first wave of SampleRequested, by the policy that it names, else the
                                         one that a router's rule gives it, else its experiment's arm, else the default
a shadow's share of an experiment    ->  the same, and a copy of the request under the shadow's policy, which nobody waits for
a fork                               ->  the same, with the StepDecided of each step that it keeps
a remembered answer                  ->  PlanMade + StepDecided(recalled): nothing is sampled
impossible                           ->  dead letter + RequestFailed(invalid)
unreadable, with a key or an id      ->  dead letter + RequestFailed(invalid)
given up for any other cause         ->  dead letter + RequestFailed(no_answer)
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

from msgspec.structs import replace

from conclave.domain import planning, recall, thinking
from conclave.domain.fair_queue import Flow
from conclave.domain.pacing import TokenBuckets
from conclave.domain.priorities import DEFAULT_PRIORITY, MOST_URGENT, PRIORITIES, known_priority
from conclave.domain.quality import QUALITIES
from conclave.domain.recall import Memory, Remembered, Wanted
from conclave.domain.routing import Choice
from conclave.domain.structured import answer_schema
from conclave.domain.structured.asking import FORM, can_structure
from conclave.errors import Rejected
from conclave.policies.current import CurrentPolicies
from conclave.policies.effort import CurrentNeeds
from conclave.routes.current import CurrentRouter
from conclave.runtime.dead_letters import Cause, Reason
from conclave.runtime.handler import Arrival
from schemas.envelope import rfc3339
from schemas.events import Event, PlanMade, ReasoningRequested, RequestFailed, SampleRequested
from schemas.experiments import SHADOW
from schemas.ids import asked_at_ms, derived_request_id, shadow_id
from schemas.values import Fingerprint, Policy, RequestFailure
from services.decomposer.claims import claimed_request_id, record_named
from services.decomposer.conversations import Conversations
from services.decomposer.door import Door, Entry
from services.decomposer.experiments import Assigned, Experiments
from services.decomposer.settings import DecomposerSettings
from services.decomposer.shadows import can_shadow, copy_of


class Decomposer:
    """Handler of `reasoning.requests`, and listener to `reasoning.experiments` and `reasoning.weights`."""

    def __init__(
        self,
        settings: DecomposerSettings,
        policies: CurrentPolicies,
        router: CurrentRouter | None = None,
        memory: Memory | None = None,
        effort: CurrentNeeds | None = None,
        door: Door | None = None,
        share: Callable[[], float] = lambda: 1.0,
    ) -> None:
        """`door`: through which requests are begun, at once without one. `share`, 0 to 1: of all requests that come here."""
        self._settings, self._policies, self._router, self._memory = settings, policies, router, memory
        self._effort, self._door, self._share = effort, door, share
        self._urgent = TokenBuckets(settings.interactive_per_minute)
        self._conversations = Conversations(settings.conversation_tag, settings.conversation_per_minute, share)
        self._experiments = Experiments(policies.find)

    async def handle(self, event: Event, arrival: Arrival) -> Sequence[Event]:
        """The plan of a request and its first samples, or the request under its own key.

        Raises: Rejected for a request that can't be answered whatever is tried.
        """
        if not isinstance(event, ReasoningRequested):
            raise Rejected("ce_type", "ReasoningRequested", type(event).__name__)
        request_id = event.request_id
        if request_id is None:
            return [self._named(event, arrival)]
        if arrival.key != request_id:
            return [event]
        self._check_time(request_id, arrival)
        if event.shadow is not None and request_id != shadow_id(event.shadow.request_id):
            raise Rejected("$.shadow.request_id", "nothing: it is set on the pipeline's own copies", request_id)
        event, reasons = self._within_rate(event, arrival)
        conversation, spread = self._conversations.kept(event, self._tenant(event), arrival.recorded_ms)
        reasons = {**reasons, **spread}
        planned = None
        if self._memory is not None:
            planned = plan, assigned = self._plan(event, request_id, arrival, reasons)
            found = await self._remembered(event, plan, assigned, arrival)
            if found is not None:
                return recall.recalled(plan, found, arrival.now_ms)
        async with self._entry(event, request_id, arrival) as entry:
            if planned is None or entry.has_waited:  # by what holds now
                planned = self._plan(event, request_id, arrival, reasons)
            plan, assigned = replace(planned[0], conversation=conversation), planned[1]
            begun = self._begun(event, plan, arrival)
            entry.num_samples = sum(isinstance(each, SampleRequested) for each in begun)
        return [plan, *begun, *self._shadowed(event, request_id, assigned)]

    def drain(self) -> None:
        """Begins with no request any more: those that wait are put back."""
        if self._door is not None:
            self._door.close()

    def give_up(self, event: Event, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        """The failure of the request."""
        if not isinstance(event, ReasoningRequested):
            return []
        is_invalid = cause.reason is Reason.REJECTED
        failure = RequestFailure.INVALID if is_invalid else RequestFailure.NO_ANSWER
        return [RequestFailed(request_id=_request_id(event, arrival), failure=failure, message=cause.message)]

    def unreadable(self, value: bytes | None, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        """The failure of the request that a record with a key or an id would have been; nothing for any other record."""
        request_id = claimed_request_id(value, arrival)
        if request_id is None:
            return []
        text = f"{cause.field[:200]}: {cause.error[:1500]}; in {record_named(arrival)}".removeprefix(": ")
        message = dataclasses.replace(cause, error=text).message
        return [RequestFailed(request_id=request_id, failure=RequestFailure.INVALID, message=message)]

    def request_key(self, event: Event, arrival: Arrival) -> str | None:
        """What recognises a request that is published twice; None while it is not valid and under its own key."""
        if not isinstance(event, ReasoningRequested) or self._policies.find(event.policy) is None:
            return None
        if not _is_sound(event):
            return None
        if event.request_id is None:
            key = event.idempotency_key
            return f"idempotency key {key}" if key is not None and arrival.key == key else None
        is_own = arrival.key == event.request_id and self._is_timely(event.request_id, arrival)
        return event.request_id if is_own else None

    def _within_rate(self, event: ReasoningRequested, arrival: Arrival) -> tuple[ReasoningRequested, dict[str, str]]:
        """The request, standard where it is interactive and its tenant has had its share of those; and why."""
        if event.priority != MOST_URGENT:
            return event, {}
        # The broker's time and not the clock's: what was published slowly and lay long is not a flood.
        if self._urgent.take(self._tenant(event), arrival.recorded_ms, share=self._share()):
            return event, {}
        most = self._settings.interactive_per_minute
        reason = f"{DEFAULT_PRIORITY}: its tenant has had the {most} {MOST_URGENT} requests that it may have a minute"
        return replace(event, priority=None), {"priority": reason}

    def _entry(
        self, event: ReasoningRequested, request_id: str, arrival: Arrival
    ) -> AbstractAsyncContextManager[Entry]:
        """The request's way through the door."""
        if self._door is None:
            return nullcontext(Entry())
        flow = Flow(known_priority(event.priority or DEFAULT_PRIORITY), self._tenant(event))
        left_s = event.deadline_s - (arrival.now_ms - arrival.recorded_ms) / 1000
        return self._door.entry(request_id, arrival.coordinates, flow, left_s=left_s)

    def _begun(self, event: ReasoningRequested, plan: PlanMade, arrival: Arrival) -> list[Event]:
        """The verdicts that a fork keeps, and what the steps that are asked first begin with."""
        if self._router is not None:
            self._router.note(plan.policy, arrival.now_ms)
        kept = event.fork.kept if event.fork is not None else ()
        contexts = planning.step_contexts(plan, plan.steps[len(kept) :])
        verdicts = thinking.recalled(plan, kept, arrival.recorded_ms)
        return [*verdicts, *(first for context in contexts for first in planning.begun(context))]

    @staticmethod
    def _named(event: ReasoningRequested, arrival: Arrival) -> ReasoningRequested:
        """A request without an id under its idempotency key; there, or without one, with an id."""
        if event.idempotency_key is not None and arrival.key != event.idempotency_key:
            return event
        return replace(event, request_id=_request_id(event, arrival))

    def hear(self, event: Event) -> None:
        """Keeps the newest definition and weights of each experiment."""
        self._experiments.hear(event)

    def status(self) -> dict[str, object]:
        """What /ready says."""
        parts = (self._router, self._memory, self._effort, self._door)
        told = [each.status() for each in parts if each is not None]
        return (
            self._policies.status() | self._experiments.status() | {key: v for each in told for key, v in each.items()}
        )

    def _plan(
        self, event: ReasoningRequested, request_id: str, arrival: Arrival, reasons: Mapping[str, str]
    ) -> tuple[PlanMade, Assigned | None]:
        """By the policy that the request names, else a router's choice, else its experiment's arm, else the default one."""
        if event.quality is not None and event.quality not in QUALITIES:
            raise Rejected("$.quality", f"one of {', '.join(QUALITIES)}", event.quality)
        if event.priority is not None and event.priority not in PRIORITIES:
            raise Rejected("$.priority", f"one of {', '.join(PRIORITIES)}", event.priority)
        choice = self._routed(event, arrival) if event.policy is None else Choice(event.policy, None)
        policy = self._policies.find(choice.policy) if choice.policy is not None else None
        if policy is None and event.policy is not None:
            expected = f"one of {', '.join(self._policies.names)}, or one with its version, as default@1"
            raise Rejected("$.policy", expected, event.policy)
        gone = {} if policy is not None or choice.policy is None else {"missing": f"policy {choice.policy}"}
        # The broker's time and not the clock's: a record that is read again makes the same copy, or none.
        assigned = self._experiments.assigned(event, request_id, arrival.recorded_ms) if policy is None else None
        policy = policy or (assigned.policy if assigned is not None else self._policies.default)
        self._check_structure(event, policy)
        plan = planning.plan(
            event,
            request_id,
            policy,
            arrival.recorded_ms,
            reasons={**choice.reasons, **gone, **reasons},
            needs=self._effort.needs if self._effort is not None else None,
        )
        plan = replace(
            plan,
            fingerprint=self._fingerprint(event, policy),
            purpose=self._policies.purpose(policy),
            tenant=self._tenant(event),
        )
        if event.shadow is not None:
            plan = replace(plan, arm=SHADOW, shadow=event.shadow)
        return (plan if assigned is None else replace(plan, **assigned.noted_in(plan))), assigned

    def _shadowed(
        self, event: ReasoningRequested, request_id: str, assigned: Assigned | None
    ) -> list[ReasoningRequested]:
        """The copy of a request that its experiment's shadow answers, if it can; none of a fork, whose steps are another's."""
        if assigned is None or assigned.assignment is None or assigned.shadow is None or event.fork is not None:
            return []
        if not can_shadow(assigned.shadow) or not self._can_structure(event, assigned.shadow):
            return []
        return [copy_of(event, request_id, assigned.shadow, assigned.assignment.experiment)]

    def _can_structure(self, event: ReasoningRequested, policy: Policy) -> bool:
        """True where the policy can give the answer in the shape that is asked for, if any is."""
        return event.answer_schema is None or (can_structure(policy) and self._policies.has_form(policy, FORM))

    def _check_structure(self, event: ReasoningRequested, policy: Policy) -> None:
        """Raises: Rejected where a structured answer is asked of a policy that can't give one."""
        if self._can_structure(event, policy):
            return
        able = {each.policy.name for each in self._policies.policies if self._can_structure(event, each.policy)}
        raise Rejected(
            "$.policy", f"one that gives structured answers: {', '.join(sorted(able)) or 'none'}", policy.name
        )

    def _fingerprint(self, event: ReasoningRequested, policy: Policy) -> Fingerprint | None:
        """What the request's answer is found by.

        None for a fork, whose kept steps decide too, for a structured answer, and for a copy, whose answer is nobody's.
        """
        if event.fork is not None or event.answer_schema is not None or event.shadow is not None:
            return None
        return recall.fingerprint(
            event.question,
            policy,
            tenant=self._tenant(event),
            limits=(event.max_samples, event.quality, event.max_tokens, event.max_turn_tokens),
            epoch=self._settings.recall_epoch,
            has_gist=self._settings.recall == "gist",
        )

    async def _remembered(
        self, event: ReasoningRequested, plan: PlanMade, assigned: Assigned | None, arrival: Arrival
    ) -> Remembered | None:
        """An answer that the request may be given at once. What an experiment compares is always thought about."""
        is_compared = assigned is not None and assigned.is_compared
        if self._memory is None or plan.fingerprint is None or is_compared:
            return None
        max_age_s = self._settings.freshness.max_age_s(event.question, event.max_age_s)
        if max_age_s <= 0.0:
            return None
        wanted = Wanted(
            fingerprint=plan.fingerprint,
            max_age_s=max_age_s,
            at=arrival.coordinates,
            deadline_s=event.deadline_s,
            is_worded_alike=self._settings.recall != "gist",
        )
        return await self._memory.recall(wanted, arrival.now_ms)

    def _tenant(self, event: ReasoningRequested) -> str:
        return event.tags.get(self._settings.tenant_tag, "")

    def _routed(self, event: ReasoningRequested, arrival: Arrival) -> Choice:
        """What the router gives a request; no policy without a router."""
        if self._router is None:
            return Choice(None, None)
        tenant = self._tenant(event)
        return self._router.choose(
            event.question, event.tags, tenant=tenant, at=arrival.coordinates, now_ms=arrival.now_ms
        )

    def _check_time(self, request_id: str, arrival: Arrival) -> None:
        if not self._is_timely(request_id, arrival):
            days, ahead = self._settings.request_max_age_s / 86_400, self._settings.request_max_ahead_s / 86_400
            expected = f"a UUIDv7 made at most {days:g} days before and {ahead:g} days after its record"
            raise Rejected("$.request_id", expected, f"{request_id} ({_when(asked_at_ms(request_id))})")

    def _is_timely(self, request_id: str, arrival: Arrival) -> bool:
        # The broker's time of the record and not the clock: a re-read must come to the same conclusion.
        age_s = (arrival.recorded_ms - asked_at_ms(request_id)) / 1000
        return -self._settings.request_max_ahead_s <= age_s <= self._settings.request_max_age_s


def _is_sound(event: ReasoningRequested) -> bool:
    """True for a request whose quality and priority are known and whose schema can be taken."""
    try:
        if event.answer_schema is not None:
            answer_schema.accepted(event.answer_schema)
    except Rejected:
        return False
    return event.quality in (None, *QUALITIES) and event.priority in (None, *PRIORITIES)


def _request_id(event: ReasoningRequested, arrival: Arrival) -> str:
    """The request's own id, or one derived from when and where its record lies: reading it again gives the same request."""
    return event.request_id or derived_request_id(arrival.recorded_ms, arrival.coordinates)


def _when(timestamp_ms: int) -> str:
    try:
        return rfc3339(timestamp_ms)
    except (ValueError, OverflowError, OSError):  # 48 bits of milliseconds reach beyond the year 9999
        return f"{timestamp_ms} ms since 1970"
