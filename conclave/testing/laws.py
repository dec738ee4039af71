"""What must hold of a cluster and a database once everything has settled, whatever happened on the way.

1. each request has one answer or one failure
2. each sample has one terminal event, and each launched or recalled step one verdict; a path that is handed on is so once each
   time, further than before, and its end says how often
3. no output is there twice, by its event's id
4. committed offsets never lose what they covered (`watch` sees them as they are committed), and in the end cover all
5. the recorder's rows are the log's events
6. what nobody can handle is a dead letter, once; what the recorder's database refuses is one of the recorder's, at least once
7. a process put out of its group fences a partition's owner at most once before it is back (`watch`)
8. no process ends by itself, each is ready in the end, and no failure is left lying about
9. an answer that is recalled was reached, for the same question, under the same policy, for the same tenant
10. a request gets the policy that it names; where it names none and there is a router, its plan says by which rule
11. samples that share a decoder's KV cache lie in one partition: those of a tenant's conversation, of whichever request
12. a call of a tool has its effect at most once, and where its verdict says that it was observed; none that needs a yes without one
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from conclave.domain.affinity import SAMPLES_TOGETHER
from conclave.domain.external import CallEnd
from conclave.domain.recall import gist
from conclave.runtime import dead_letters
from conclave.runtime.record import Tp
from conclave.testing.cluster import Cluster
from conclave.testing.log import StoredRecord
from conclave.testing.record import Database
from conclave.testing.settling import unfinished
from conclave.testing.world import World
from schemas import codec, flow
from schemas.codec import UnreadableEvent
from schemas.envelope import header
from schemas.events import (
    AnswerReached,
    ApprovalGiven,
    ApprovalRequested,
    Event,
    PathDecoded,
    PathFailed,
    PlanMade,
    ReasoningRequested,
    RequestFailed,
    SampleRequested,
    StepDecided,
    ToolRequested,
)
from schemas.flow import Topic
from schemas.ids import path_id, step_id
from schemas.values import Progress

_AT_LEAST_ONCE = "recorder"  # writes dead letters so: its rows and offsets are elsewhere, in no transaction with them


@dataclass
class Expected:
    """What was asked of the services."""

    requests: set[str] = field(default_factory=set)
    questions: set[str] = field(default_factory=set)  # of requests that were given no id
    broken: dict[str, set[bytes]] = field(default_factory=dict)  # by topic: what nobody can read
    is_routed: bool = False  # what names no policy goes through a router
    is_unsteady: bool = False  # handlers and joiners fail, so what is readable may be given up too


def violations(cluster: Cluster, database: Database, expected: Expected, world: World | None = None) -> Iterator[str]:
    """What is wrong, a line each; nothing when the laws hold."""
    log = _Log(cluster)
    yield from (f"never settled: {line}" for line in unfinished(cluster, database))
    yield from _ends(log, expected)
    yield from _samples(log)
    yield from _recalled(log)
    yield from _given(log, expected)
    yield from _together(log)
    if world is not None:
        yield from _calls(log, world)
    yield from _twice(cluster)
    yield from _rows(log, database)
    yield from _dead_letters(cluster, database, expected)


def events(records: Iterable[StoredRecord]) -> Iterator[Event]:
    """The events in records, of those that can be read."""
    return (event for _, event in _read(records))


def _read(records: Iterable[StoredRecord]) -> Iterator[tuple[StoredRecord, Event]]:
    for record in records:
        try:
            yield record, codec.read(record.topic, record.headers, record.value)
        except UnreadableEvent:
            continue


class _Log:
    """What the log holds in the end: its records that can be read, each read once."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._of: dict[Topic, list[tuple[StoredRecord, Event]]] = {}

    def records(self, topic: Topic) -> list[tuple[StoredRecord, Event]]:
        """The records of a topic with their events."""
        if topic not in self._of:
            self._of[topic] = list(_read(self._cluster.records(topic.value)))
        return self._of[topic]

    def events(self, topic: Topic) -> Iterator[Event]:
        """The events of a topic."""
        return (event for _, event in self.records(topic))


def _ends(log: _Log, expected: Expected) -> Iterator[str]:
    ends: Counter[str] = Counter()
    for event in log.events(Topic.ANSWERS):
        assert isinstance(event, AnswerReached | RequestFailed)
        ends[event.request_id] += 1
    named = Counter[str]()
    requests = set(expected.requests)
    for event in log.events(Topic.STEPS):
        if isinstance(event, PlanMade) and event.question in expected.questions:
            named[event.question] += 1
            requests.add(event.request_id)
    yield from _differences("question", named, dict.fromkeys(expected.questions, 1), "planned")
    # What can't be read ends too, under an id that its service made from where it lies.
    unreadable = sorted(set(ends) - requests)
    num_broken = len(expected.broken.get(Topic.REQUESTS.value, ()))
    if len(unreadable) != num_broken:
        yield f"{unreadable} ended and were never asked; {num_broken} records could not be read"
    yield from _differences("request", ends, dict.fromkeys([*requests, *unreadable], 1), "ended")


def _samples(log: _Log) -> Iterator[str]:
    launched: Counter[str] = Counter()
    steps: set[str] = set()
    for event in log.events(Topic.SAMPLES):
        assert isinstance(event, SampleRequested)
        if event.progress is None:
            launched[path_id(event.context.step_id, event.sample_index)] += 1
        steps.add(event.context.step_id)
    reported: Counter[str] = Counter()
    for event in log.events(Topic.PATHS):
        if isinstance(event, PathDecoded | PathFailed):
            reported[path_id(event.context.step_id, event.sample_index)] += 1
    yield from _handed_on(log)
    yield from _differences("sample", launched, dict.fromkeys(launched, 1), "launched")
    yield from _differences("sample", reported, dict.fromkeys(launched, 1), "reported")
    # An aggregator that must carry a lone verdict publishes it again: that one is a carry.
    verdicts = Counter(
        str(step_id(event.request_id, event.step_index))
        for record, event in log.records(Topic.STEPS)
        if isinstance(event, StepDecided) and header(record.headers, "ce_source") != "/conclave/aggregator"
    )
    called = {event.step_id for event in log.events(Topic.TOOLS) if isinstance(event, ToolRequested)}
    recalled = {step_id(plan.request_id, 0) for plan in _plans(log) if plan.recalled_from is not None}
    if recalled & steps:
        yield f"{sorted(recalled & steps)} were recalled, and sampled all the same"
    yield from _differences("step", verdicts, dict.fromkeys([*steps, *recalled, *called], 1), "decided")


def _handed_on(log: _Log) -> Iterator[str]:
    chains: dict[str, list[Progress]] = {}
    for event in log.events(Topic.SAMPLES):
        if isinstance(event, SampleRequested) and event.progress is not None:
            chains.setdefault(path_id(event.context.step_id, event.sample_index), []).append(event.progress)
    for path, chain in chains.items():
        chain.sort(key=lambda progress: progress.num_handed_on)
        if [progress.num_handed_on for progress in chain] != list(range(1, len(chain) + 1)):
            yield f"sample {path} was handed on as {[progress.num_handed_on for progress in chain]}"
        come = [(len(progress.turns), progress.tokens_out) for progress in chain]
        if sorted(set(come)) != come:
            yield f"sample {path} was handed on no further than before: {come}"
    for event in log.events(Topic.PATHS):
        if isinstance(event, PathDecoded | PathFailed):
            path = path_id(event.context.step_id, event.sample_index)
            chain = chains.get(path, [])
            if event.num_handed_on != len(chain):
                yield f"sample {path} was handed on {len(chain)} times, and says {event.num_handed_on}"
            if chain and (event.tokens_out or 0) < chain[-1].tokens_out:
                yield f"sample {path} has {event.tokens_out} tokens, and had {chain[-1].tokens_out} when it was handed on"


def _plans(log: _Log) -> Iterator[PlanMade]:
    """Every plan; of one that is there twice, law 3 tells."""
    for event in log.events(Topic.STEPS):
        if isinstance(event, PlanMade):
            yield event


def _given(log: _Log, expected: Expected) -> Iterator[str]:
    asked = {
        str(event.request_id): event for event in log.events(Topic.REQUESTS) if isinstance(event, ReasoningRequested)
    }
    for plan in _plans(log):
        named = asked[plan.request_id].policy if plan.request_id in asked else None
        if named is not None and named != plan.policy.name:
            yield f"{plan.request_id} names {named}, and was given {plan.policy.name}"
        if named is None and expected.is_routed is not ("rule" in plan.reasons):
            yield f"{plan.request_id} was given {plan.policy.name} for {plan.reasons}"


def _calls(log: _Log, world: World) -> Iterator[str]:
    asked = list(log.events(Topic.TOOLS))
    yes = {
        step_id(event.request_id, event.step_index)
        for event in log.events(Topic.STEPS)
        if isinstance(event, ApprovalGiven) and event.is_approved
    }
    observed = {
        step_id(event.request_id, event.step_index)
        for event in log.events(Topic.STEPS)
        if isinstance(event, StepDecided) and event.stop_reason == CallEnd.OBSERVED
    }
    requested = {str(event.step_id): event for event in asked if isinstance(event, ToolRequested)}
    waited = {event.step_id for event in asked if isinstance(event, ApprovalRequested)}
    for key, number in world.effects.items():
        if number > 1:
            yield f"the call of {key} had its effect {number} times"
        if key not in requested:
            yield f"the call of {key} was made, and nobody asked for it"
        if key in waited - yes:
            yield f"the call of {key} was made, and nobody said yes"
    for key in sorted(observed - {key for key, number in world.effects.items() if number}):
        yield f"the call of {key} was observed, and never had its effect"


def _together(log: _Log) -> Iterator[str]:
    told = {
        str(event.request_id): (event.tags.get("tenant", ""), event.tags.get("conversation", ""))
        for event in log.events(Topic.REQUESTS)
        if isinstance(event, ReasoningRequested)
    }
    lies: dict[tuple[str, str, int], set[int]] = {}
    for record, event in log.records(Topic.SAMPLES):
        assert isinstance(event, SampleRequested)
        tenant, conversation = told.get(event.context.request_id, ("", ""))
        if conversation:
            block = event.sample_index // SAMPLES_TOGETHER
            lies.setdefault((tenant, conversation, block), set()).add(record.partition)
    for (tenant, conversation, block), partitions in lies.items():
        if len(partitions) > 1:
            yield f"block {block} of {tenant}'s conversation {conversation} lies in partitions {sorted(partitions)}"


def _recalled(log: _Log) -> Iterator[str]:
    plans = {plan.request_id: plan for plan in _plans(log)}
    answers = {event.request_id: event for event in log.events(Topic.ANSWERS) if isinstance(event, AnswerReached)}
    tenants = {
        str(event.request_id): event.tags.get("tenant", "")
        for event in log.events(Topic.REQUESTS)
        if isinstance(event, ReasoningRequested)
    }
    for plan in plans.values():
        if plan.recalled_from is None:
            continue
        first, answer, given = (
            plans.get(plan.recalled_from),
            answers.get(plan.recalled_from),
            answers.get(plan.request_id),
        )
        if first is None or answer is None or first.recalled_from is not None:
            yield f"{plan.request_id} recalls {plan.recalled_from}, which was not thought about"
        elif gist(first.question) != gist(plan.question) or first.policy.digest != plan.policy.digest:
            yield f"{plan.request_id} recalls the answer to another question: {first.question!r}"
        elif tenants.get(first.request_id) != tenants.get(plan.request_id):
            yield f"{plan.request_id} recalls the answer of another tenant"
        elif given is not None and (given.answer, given.recalled_from) != (answer.answer, answer.request_id):
            yield f"{plan.request_id} was answered {given.answer!r}, and recalls {answer.answer!r}"


def _differences(kind: str, found: Mapping[str, int], wanted: Mapping[str, int], verb: str) -> Iterator[str]:
    for name in sorted({*found, *wanted}):
        if found.get(name, 0) != wanted.get(name, 0):
            yield f"{kind} {name} was {verb} {found.get(name, 0)} times, not {wanted.get(name, 0)}"


def _twice(cluster: Cluster) -> Iterator[str]:
    for topic in sorted({tp.topic for tp in cluster.partitions}):
        ids = Counter(
            header(record.headers, "ce_id")
            for record in cluster.records(topic)
            if header(record.headers, dead_letters.REPLAY_HEADER) is None and not _is_of_recorder(record)
        )
        for event_id, number in ids.items():
            if event_id is not None and number > 1:
                yield f"{topic} has event {event_id} {number} times"


def _rows(log: _Log, database: Database) -> Iterator[str]:
    wanted: dict[tuple[str, int, int], Event] = {}
    for topic in flow.service_row("recorder").consumes:
        for record, event in log.records(topic):
            wanted[record.topic, record.partition, record.offset] = event
    for place in sorted({*wanted, *database.rows}):
        row = database.rows.get(place)
        if row is None and place in database.refused:
            continue
        if row is None:
            yield f"the record lacks {place}"
        elif row.event != wanted.get(place):
            yield f"the record has {place} otherwise than the log"


def _dead_letters(cluster: Cluster, database: Database, expected: Expected) -> Iterator[str]:
    for row in flow.TOPICS:
        if row.is_broadcast:
            continue
        topic = flow.dead_letter_topic(row.topic.value)
        letters = cluster.records(topic)
        values, broken = (
            {_received(cluster, row.topic.value, letter) for letter in letters},
            expected.broken.get(row.topic.value, set()),
        )
        if not broken <= values:
            yield f"{topic} lacks {broken - values}"
        places = _places(each for each in letters if not _is_of_recorder(each))
        yield from _differences(topic, places, dict.fromkeys(places, 1), "dead-lettered")
        refused = {f"{place[1]}/{place[2]}" for place in database.refused if place[0] == row.topic.value}
        if lacking := refused - set(_places(each for each in letters if _is_of_recorder(each))):
            yield f"{topic} lacks what the database refused: {sorted(lacking)}"
        if not expected.is_unsteady:
            # A service whose clock is ahead gives up what comes after its deadline, and rightly.
            late = {letter.value for letter in letters if header(letter.headers, "conclave-reason") == "unbegun"}
            known = late | {cluster.partitions[Tp(*place[:2])].value_at(place[2]) for place in database.refused}
            if not values <= broken | known:
                yield f"{topic} holds what can be read: {values - broken - known}"


def _is_of_recorder(record: StoredRecord) -> bool:
    return dead_letters.read(record).service == _AT_LEAST_ONCE


def _places(letters: Iterable[StoredRecord]) -> Counter[str]:
    """How often there is a dead letter of each record of a topic, by partition/offset."""
    return Counter(
        f"{header(letter.headers, 'conclave-partition')}/{header(letter.headers, 'conclave-offset')}"
        for letter in letters
    )


def _received(cluster: Cluster, topic: str, letter: StoredRecord) -> bytes | None:
    """The value that a dead letter is about: where it had no room for it, the one whose digest it tells."""
    read = dead_letters.read(letter)
    if "value" not in read.left_out:
        return letter.value
    partition, offset = (
        int(header(letter.headers, f"{dead_letters.PREFIX}{name}") or -1) for name in ("partition", "offset")
    )
    value = cluster.partitions[Tp(topic, partition)].value_at(offset)
    told = header(letter.headers, f"{dead_letters.PREFIX}value-sha256")
    return value if value is not None and hashlib.sha256(value).hexdigest() == told else None


def told(lines: Sequence[str], limit: int = 12) -> str:
    """The lines as one text, the first `limit` of them."""
    more = [f"… and {len(lines) - limit} more"] if len(lines) > limit else []
    return "\n".join([*lines[:limit], *more])
