"""What a critic's verdict says: `right`, or `Step <number> is wrong: …`, as the extractor `verdict` finds them."""

import re
from collections.abc import Sequence

RIGHT = "right"
_BLAME = re.compile(r"step ([0-9]{1,3}) is wrong\b.*", re.I | re.S)


def blamed_step(verdict: str) -> int | None:
    """The number of the step that a verdict blames, from 1; None when it blames none."""
    match = _BLAME.fullmatch(verdict.strip())
    return int(match[1]) or None if match else None


def is_content(verdict: str) -> bool:
    """True when a verdict finds nothing wrong."""
    return verdict.strip().casefold() == RIGHT


def by_blame(verdicts: Sequence[str]) -> list[str]:
    """A cluster for all verdicts that blame the same step, and one for those that blame none; "" for what is no verdict."""
    return [RIGHT if is_content(each) else str(blamed_step(each) or "") for each in verdicts]
