"""What an engine measures of a model server, for Prometheus."""

from prometheus_client import Counter, Gauge

CALLS = Counter("conclave_model_calls", "Calls of the model server by what came of them", ("outcome",))
PAUSES = Counter("conclave_model_pauses", "Pauses for which the model server has asked, or that it was given")
WINDOW = Gauge("conclave_model_calls_at_once", "Calls that may run at once, as the model server has been of late")
