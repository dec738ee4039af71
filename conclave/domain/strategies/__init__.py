"""Reasoning strategies: `STRATEGIES`, a file and a row each. What each may see and do: conclave.domain.thought."""

from conclave.domain.strategies import (
    act,
    contemplation,
    escalate,
    least_to_most,
    select,
    self_ask,
    synthesise,
    tree,
    tree_checked,
    tree_sampled,
    vote,
)
from conclave.domain.thought import Strategy

STRATEGIES: dict[str, Strategy] = {
    "vote": vote.STRATEGY,
    "escalate": escalate.STRATEGY,
    "least_to_most": least_to_most.STRATEGY,
    "self_ask": self_ask.STRATEGY,
    "tree": tree.STRATEGY,
    "tree_checked": tree_checked.STRATEGY,
    "tree_sampled": tree_sampled.STRATEGY,
    "select": select.STRATEGY,
    "synthesise": synthesise.STRATEGY,
    "contemplation": contemplation.STRATEGY,
    "act": act.STRATEGY,
}
