"""How long an answer holds: what the world decides perishes, what the question itself says does not."""

import re
from dataclasses import dataclass

from conclave.domain.routing.features import Seen

# Of questions about the world; "now" and "price" in a word problem are part of its story.
_PERISHABLE = re.compile(
    r"\b(?:today|tonight|tomorrow|yesterday|now|nowadays|current|currently|latest|newest|recent|recently|live|"
    r"weather|forecast|temperature|news|headlines|score|price|stock|shares?|exchange rate|traffic|"
    r"this (?:morning|afternoon|evening|week|month|year|season)|last (?:night|week|month|year)|next (?:week|month|year)|"
    r"what time|what day|how late|o'clock|president|prime minister|chancellor|ceo|champion|record holder|version)\b",
    re.IGNORECASE,
)
_SELF_CONTAINED = frozenset({"calculation", "word_problem", "code"})


@dataclass(frozen=True, slots=True)
class Freshness:
    """Seconds for which answers hold."""

    lasting_s: float
    perishable_s: float

    def max_age_s(self, question: str, asked_for_s: float | None) -> float:
        """How old an answer to the question may be: the shorter of what its kind allows and what the request asks for."""
        holds_s = self.perishable_s if is_perishable(question) else self.lasting_s
        return holds_s if asked_for_s is None else min(holds_s, asked_for_s)


def is_perishable(question: str) -> bool:
    """True for a question about what changes in the world."""
    return Seen(question).intent not in _SELF_CONTAINED and _PERISHABLE.search(question) is not None
