"""A fixed number of samples: self-consistency as it was first described, arXiv 2203.11171."""

from conclave.domain.params import Params
from conclave.domain.stopping import bound
from conclave.domain.stopping.labels import Labels
from schemas.values import Ask

# Who asks for a fixed number wants them all, on the record and in one wave; with the bound it is the cheapest exact majority.
PARAMS: Params = bound.params(is_on=False)


def num_needed(labels: Labels, ask: Ask) -> int:
    """Never satisfied: sampling ends when `max_samples` have reported."""
    return max(1, ask.max_samples - len(labels))
