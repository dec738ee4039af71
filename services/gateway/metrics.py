"""What the gateway measures of itself, beside what every service does."""

from prometheus_client import Counter, Gauge, Histogram

_TIMES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

CALLS = Counter("conclave_http_calls", "Calls of the API by what was answered", ("method", "route", "status"))
CALL_SECONDS = Histogram(
    "conclave_http_call_seconds", "From a call to the first byte of its answer", ("method", "route"), buckets=_TIMES
)
WAITING = Gauge("conclave_http_waiting", "Requests whose end a client waits for")
CANCELLATIONS = Gauge("conclave_http_cancellations_waiting", "Cancellations that wait for the log to be back")
LINES_ASKED = Counter("conclave_batch_lines_asked", "Lines of batches that this gateway asked")
