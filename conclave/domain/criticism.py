"""What a critic's verdict says, in the words of its form: that nothing is wrong, or which step is the first that is."""

from collections.abc import Sequence

from conclave.domain import wording
from schemas.values import Wording


def blamed_step(verdict: str, words: Wording) -> int | None:
    """The number of the step that a verdict blames, from 1; None when it blames none."""
    said = wording.groups(words.blames, verdict.strip())
    return None if said is None else wording.number(said.get("step", "")) or None


def is_content(verdict: str, words: Wording) -> bool:
    """True when a verdict finds nothing wrong."""
    return verdict.strip().casefold() == words.content.casefold()


def by_blame(verdicts: Sequence[str], words: Wording) -> list[str]:
    """A cluster for all verdicts that blame the same step, and one for those that blame none; "" for what is no verdict."""
    return [words.content if is_content(each, words) else str(blamed_step(each, words) or "") for each in verdicts]
