"""The model chooses among the distinct answers of a vote: universal self-consistency, arXiv 2311.17311."""

from conclave.domain.strategies import candidates

STRATEGY = candidates.strategy("select")
