"""The law that every stopping rule keeps: what it says that it needs is neither too much nor too little."""

import random
from collections.abc import Mapping, Sequence

from conclave.domain.stopping import Labels, StoppingRule, needed_of_all
from schemas.values import Ask

_ANSWERS = ("a", "a", "a", "b", "c", "")  # "" says nothing
_MAX_LABELS = 24
_FAR = 40


def num_needed(labels: Labels, ask: Ask, weights: Sequence[float] | None = None) -> int:
    """How many more samples it takes at least until the ask's rule is satisfied or the bound reached; 0 once either is so."""
    return needed_of_all([labels], ask, weights)[0]


def next_wave(labels: Labels, ask: Ask) -> int:
    """How many samples a step needs at least beyond those of `labels`, all of which are in, within its `max_samples`."""
    return max(0, min(num_needed(labels, ask), ask.max_samples - len(labels)))


def check_stopping(rule: StoppingRule, params: Mapping[str, float], rng: random.Random) -> None:
    """Puts any votes to the rule. Raises: AssertionError when it breaks its law.

    Needs are whole and never negative. Whatever comes, a rule isn't satisfied before as many more votes as it said are in;
    so a wave of exactly that size wastes nothing.
    """
    ask = Ask(form="any", params=dict(params))
    labels = [rng.choice(_ANSWERS) for _ in range(rng.randint(0, _MAX_LABELS))]
    needed = rule.num_needed(labels, ask)
    assert isinstance(needed, int), f"it needs {needed!r} more votes"
    assert needed >= 0, f"it needs {needed} more votes"
    assert rule.num_needed(list(labels), ask) == needed, "asked twice, it says two things"
    for more in range(1, min(needed, _FAR)):
        further = [rng.choice(_ANSWERS) for _ in range(more)]
        assert rule.num_needed([*labels, *further], ask) > 0, f"it said {needed} more votes, and {more} satisfy it"
