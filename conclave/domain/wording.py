"""How what a form's words say is read, and how it is told in them. The words themselves are data: `Ask.words`, out of the form.

Patterns are RE2's, which take time linear in the text, and match all of what is looked at.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

_DIGITS = 3  # of a number of a part or a step: models count no further


def is_said(pattern: str, text: str) -> bool:
    """True where all of the text is what the pattern says."""
    return _compiled(pattern).fullmatch(_bytes(text)) is not None


def groups(pattern: str, text: str) -> Mapping[str, str] | None:
    """What the pattern's named groups hold, "" where one has no part in it; None where the text is not what it says."""
    match = _compiled(pattern).fullmatch(_bytes(text))
    if match is None:
        return None
    return {name: (held or b"").decode("utf-8", "replace") for name, held in match.groupdict().items()}


def number(text: str) -> int | None:
    """The number that a model writes, in digits of ASCII; None for anything else, and beyond 999."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    """Raises: ValueError for what is no pattern; prompt sets are checked for it when they are read."""
    import re2  # 12 ms, which the first request whose words are read waits for, and no start

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise ValueError(f"no pattern of RE2: {pattern[:100]!r} ({error})") from None
