"""The model writes one answer out of the distinct ones of a vote: the aggregator of a mixture of agents, arXiv 2406.04692."""

from conclave.domain.strategies import candidates

STRATEGY = candidates.strategy("synthesise")
