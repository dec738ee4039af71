"""The pipeline as a table. Topics, launcher, docs diagram, AsyncAPI document and the compose file's check derive from it.

producer ─requests→ decomposer ─samples→ decoder ─paths→ voter ─steps→ aggregator ─answers→ anyone
                         └────────────────steps────────────────────────────┘
"""

from enum import StrEnum

from msgspec import Struct

from schemas import events as e


class Topic(StrEnum):
    """The topics, by what they carry."""

    REQUESTS = "reasoning.requests"
    STEPS = "reasoning.steps"
    SAMPLES = "reasoning.samples"
    PATHS = "reasoning.paths"
    ANSWERS = "reasoning.answers"
    CONTROL = "reasoning.control"
    FEEDBACK = "reasoning.feedback"
    EXPERIMENTS = "reasoning.experiments"
    WEIGHTS = "reasoning.weights"
    TEXTS = "reasoning.texts"
    TOOLS = "reasoning.tools"
    POLICIES = "reasoning.policies"


class Key(StrEnum):
    """What a topic's records are keyed by: the attribute of its events."""

    REQUEST = "request_id"
    STEP = "step_id"
    DECODER = "decoder_key"
    EXPERIMENT = "experiment"
    INSTANCE = "instance"


class TopicRow(Struct, frozen=True):
    """A topic: what it carries, and how it is kept. `guardian` dead-letters what cannot be read from it."""

    topic: Topic
    key: Key
    events: tuple[type[e.Event], ...]
    guardian: str
    retention_days: float = 7.0
    cleanup: str = "delete"
    is_broadcast: bool = False  # one partition, which every replica reads whole
    is_stamped_by_broker: bool = False  # record time = arrival, whatever a producer claims


# fmt: off
TOPICS: tuple[TopicRow, ...] = (
    TopicRow(Topic.REQUESTS, Key.REQUEST, (e.ReasoningRequested,), "decomposer", is_stamped_by_broker=True),
    TopicRow(Topic.STEPS,    Key.REQUEST, (e.PlanMade, e.StepDecided, e.ThoughtCarried, e.RequestCancelled, e.ApprovalGiven),
             "aggregator"),
    TopicRow(Topic.SAMPLES,  Key.DECODER, (e.SampleRequested,), "decoder"),
    TopicRow(Topic.PATHS,    Key.STEP,    (e.PathDecoded, e.PathFailed, e.TallyCarried), "voter"),
    TopicRow(Topic.TOOLS,    Key.STEP,    (e.ToolRequested, e.ApprovalRequested), "tools"),
    TopicRow(Topic.TEXTS,    Key.REQUEST, (e.TextStored,), "recorder"),
    TopicRow(Topic.ANSWERS,  Key.REQUEST, (e.AnswerReached, e.RequestFailed), "recorder"),
    TopicRow(Topic.CONTROL,  Key.STEP,    (e.StepClosed,), "decoder",
             cleanup="compact,delete", retention_days=1.0, is_broadcast=True),
    TopicRow(Topic.FEEDBACK, Key.REQUEST, (e.FeedbackGiven,), "recorder"),
    TopicRow(Topic.EXPERIMENTS, Key.EXPERIMENT, (e.ExperimentChanged,), "decomposer", cleanup="compact", is_broadcast=True),
    TopicRow(Topic.WEIGHTS,  Key.EXPERIMENT, (e.WeightsPublished,), "decomposer", cleanup="compact", is_broadcast=True),
    TopicRow(Topic.POLICIES, Key.INSTANCE, (e.PoliciesRead,), "recorder", cleanup="compact", is_broadcast=True),
)
# fmt: on

DEAD_LETTER_SUFFIX = ".dead-letters"
DEAD_LETTER_RETENTION_DAYS = 30.0


class ServiceRow(Struct, frozen=True):
    """A service: what it reads in its consumer group, what every replica reads, and what it emits."""

    name: str
    consumes: tuple[Topic, ...]
    emits: tuple[type[e.Event], ...]
    broadcasts: tuple[Topic, ...] = ()
    needs_postgres: bool = False
    keeps_offsets: bool = False  # of its own, in PostgreSQL with its rows, and commits none to Kafka
    asks_postgres: bool = False  # where it is there; without it the service does its work all the same
    needs_model: bool = False
    serves_web: bool = False  # for people and their programs, on a port besides that of /live and /ready
    keeps_pace_with: tuple[str, ...] = ()  # services whose groups it looks at: it begins little while those are behind
    package: str = "services"  # that its module is in; an operator's own may be in none

    @property
    def module(self) -> str:
        """What `python -m` runs."""
        return f"{self.package}.{self.name}".lstrip(".")


# fmt: off
SERVICES: dict[str, ServiceRow] = {row.name: row for row in (
    ServiceRow("decomposer", (Topic.REQUESTS,),
               (e.PlanMade, e.StepDecided, e.SampleRequested, e.ToolRequested, e.ApprovalRequested, e.RequestFailed,
                e.ReasoningRequested, e.PoliciesRead),
               broadcasts=(Topic.EXPERIMENTS, Topic.WEIGHTS), asks_postgres=True, keeps_pace_with=("decoder",)),
    ServiceRow("decoder",    (Topic.SAMPLES,),  (e.PathDecoded, e.PathFailed, e.TextStored, e.SampleRequested),
               broadcasts=(Topic.CONTROL,), asks_postgres=True, needs_model=True),
    ServiceRow("voter",      (Topic.PATHS,),    (e.StepDecided, e.SampleRequested, e.StepClosed, e.TallyCarried)),
    ServiceRow("aggregator", (Topic.STEPS,),
               (e.AnswerReached, e.RequestFailed, e.SampleRequested, e.ToolRequested, e.ApprovalRequested, e.StepDecided,
                e.StepClosed, e.ThoughtCarried)),
    ServiceRow("tools",      (Topic.TOOLS,),    (e.StepDecided,), needs_postgres=True),
    ServiceRow("recorder",
               (Topic.REQUESTS, Topic.STEPS, Topic.TOOLS, Topic.PATHS, Topic.TEXTS, Topic.ANSWERS, Topic.FEEDBACK,
                Topic.EXPERIMENTS, Topic.POLICIES), (), needs_postgres=True, keeps_offsets=True),
    ServiceRow("reweighter", (), (e.WeightsPublished,), needs_postgres=True),
    ServiceRow("gateway",    (), (e.ReasoningRequested, e.RequestCancelled, e.FeedbackGiven), broadcasts=(Topic.ANSWERS,),
               needs_postgres=True, serves_web=True),
)}
# fmt: on

_ROW_OF: dict[str, TopicRow] = {row.topic.value: row for row in TOPICS}
_TOPIC_OF: dict[type[e.Event], Topic] = {event: row.topic for row in TOPICS for event in row.events}
_KEY_OF: dict[type[e.Event], str] = {event: row.key.value for row in TOPICS for event in row.events}


def topic_row(topic: str) -> TopicRow:
    """The row of a topic. Raises: ValueError for a name that is no topic of the pipeline."""
    try:
        return _ROW_OF[topic]
    except KeyError:
        raise ValueError(f"{topic!r} is no topic of the pipeline") from None


def topic_of(event: type[e.Event]) -> Topic:
    """The one topic that carries events of this type."""
    return _TOPIC_OF[event]


def service_row(name: str) -> ServiceRow:
    """The row of a service. Raises: KeyError for a name that is no service of the pipeline."""
    return SERVICES[name]


def dead_letter_topic(topic: str) -> str:
    """Where records of `topic` lie that no one could handle."""
    return topic + DEAD_LETTER_SUFFIX


def key_of(event: e.Event) -> str:
    """The Kafka key of an event, as its topic's row says.

    Raises: ValueError for a ReasoningRequested with neither request id nor idempotency key: it has no key yet.
    """
    key: str | None = getattr(event, _KEY_OF[type(event)])
    if key is None and isinstance(event, e.ReasoningRequested):
        key = event.idempotency_key
    if not key:
        raise ValueError("a request without `request_id` and `idempotency_key` has no key")
    return key


def subject_of(event: e.Event, key: str | None = None) -> str:
    """The CloudEvents subject of an event: the request it belongs to (the experiment, for weights). `key`: where it is known."""
    if isinstance(event, e.SampleRequested):
        return event.context.request_id
    key = key_of(event) if key is None else key
    return key if isinstance(event, e.ReasoningRequested) else key.partition("/")[0]
