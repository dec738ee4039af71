"""Reasoning strategies: `STRATEGIES`, a file and a row each. What each may see and do: conclave.domain.thought."""

from conclave.domain.strategies import contemplation, escalate, least_to_most, vote
from conclave.domain.thought import Strategy

STRATEGIES: dict[str, Strategy] = {
    "vote": vote.STRATEGY,
    "escalate": escalate.STRATEGY,
    "least_to_most": least_to_most.STRATEGY,
    "contemplation": contemplation.STRATEGY,
}
