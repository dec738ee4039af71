"""How sure a request wants to be, at what price: `QUALITIES`, a row a class. It chooses the stopping rule of every vote.

What each costs and loses on recorded answers of real models stands in docs/explanation/voting.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from conclave.domain.stopping import STOPPING_RULES
from schemas.values import Ask


@dataclass(frozen=True, slots=True)
class Quality:
    """A row of `QUALITIES`: a stopping rule with its parameters."""

    stopping: str
    params: Mapping[str, float]


QUALITIES: dict[str, Quality] = {
    "economy": Quality("adaptive_consistency", {"stop_confidence": 0.88}),
    "standard": Quality("adaptive_consistency", {"stop_confidence": 0.95}),
    "strict": Quality("adaptive_consistency", {"stop_confidence": 0.99}),
}


def of_quality(ask: Ask, name: str | None) -> Ask:
    """The ask with the stopping rule of a class; as it is for None, for an unknown class, and for what is asked only once."""
    quality = QUALITIES.get(name) if name is not None else None
    if quality is None or ask.max_samples == 1:
        return ask
    replaced = STOPPING_RULES[ask.stopping].params if ask.stopping in STOPPING_RULES else {}
    kept = {each: value for each, value in ask.params.items() if each not in replaced}
    return replace(ask, stopping=quality.stopping, params={**kept, **quality.params})
