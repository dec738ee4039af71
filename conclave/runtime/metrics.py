"""What a service measures of itself, for Prometheus. One process is one service, so the registry is the default one."""

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

MESSAGES = Counter("conclave_messages", "Messages by what became of them", ("topic", "outcome"))
HANDLE_SECONDS = Histogram("conclave_handle_seconds", "Time in the handler, per attempt", ("event",), buckets=_FAST)
TRANSACTION_SECONDS = Histogram("conclave_transaction_seconds", "Begin to commit of a flush", buckets=_FAST)
TRANSACTION_RECORDS = Histogram(
    "conclave_transaction_records", "Records that a flush published", buckets=(0, 1, 4, 16, 64, 256, 1024)
)
DEAD_LETTERS = Counter("conclave_dead_letters", "Messages given up", ("topic", "reason"))
IN_FLIGHT = Gauge("conclave_in_flight", "Messages being handled now")
OPEN_EVENTS = Gauge(
    "conclave_open_events", "Events read and uncommitted: running, or waiting in a group", ("topic", "partition")
)
SPAN = Gauge(
    "conclave_span_offsets", "From the watermark to the last offset seen; capped at 16384", ("topic", "partition")
)
LAG = Gauge(
    "conclave_lag",
    "Records from the watermark, or from what is stored, to the last stable offset",
    ("topic", "partition"),
)
PRODUCERS_OPENED = Counter("conclave_producers_opened", "Incarnations of transactional producers", ("cause",))
REDELIVERED = Counter("conclave_redelivered", "Records read again that were done or running", ("topic",))
CARRIED_FORWARD = Counter(
    "conclave_carried_forward", "Open groups carried forward to let the watermark move", ("topic",)
)
LOOP_DELAY_SECONDS = Histogram("conclave_loop_delay_seconds", "How late the event loop wakes", buckets=_FAST)
UP = Gauge("conclave_dependency_up", "1 while a dependency answers", ("dependency",))
RECALLS = Counter("conclave_recalls", "Questions whose answer was looked for, by where it was found", ("where",))
WAITING_REQUESTS = Gauge("conclave_waiting_requests", "Requests read that wait to be begun", ("priority",))
REQUEST_WAIT_SECONDS = Histogram(
    "conclave_request_wait_seconds",
    "How long a request that was read has waited to be begun",
    ("priority",),
    buckets=(0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
OPEN_SAMPLES = Gauge("conclave_open_samples", "Samples in the log whose paths are not, as they were counted last")


# A child is looked up by its labels with each message, which takes longer than to count one.


@cache
def messages(topic: str, outcome: str) -> Counter:
    """The messages of a topic that came to this."""
    return MESSAGES.labels(topic, outcome)


@cache
def handle_seconds(event: str) -> Histogram:
    """The time that events of this type take in the handler."""
    return HANDLE_SECONDS.labels(event)
