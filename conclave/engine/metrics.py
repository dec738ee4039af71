"""What an engine measures of a model server, for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

CALLS = Counter("conclave_model_calls", "Calls of the model server by what came of them", ("outcome",))
PAUSES = Counter("conclave_model_pauses", "Pauses for which the model server has asked, or that it was given")
WINDOW = Gauge("conclave_model_calls_at_once", "Calls that may run at once, as the model server has been of late")
WAITING_TURNS = Gauge("conclave_waiting_turns", "Turns of paths that wait for room in the engine", ("priority",))
IN_FLIGHT_LIMIT = Gauge("conclave_in_flight_limit", "Turns that the engine is given at once, as it bears them")
TURN_WAIT_SECONDS = Histogram(
    "conclave_turn_wait_seconds",
    "How long a turn of a path has waited for room in the engine",
    ("priority",),
    buckets=(0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
