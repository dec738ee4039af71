"""How many bytes a request may take in an event, so that none outgrows a Kafka record. Sizes are those of JSON in UTF-8.

An output takes almost 2 MB (conclave.runtime.limits.MAX_OUTPUT_BYTES). By construction:

    step                     128 KiB  its fields and words
    path                     128 KiB step + 1 MB turns + 384 KiB reasoning; a longer text goes beside it
    tally carried            128 KiB step + 512 KiB answers + 256 ballots of 0.25 KiB
    verdict (StepDecided)    512 KiB answers of ballots + as much for the tally + the answer
    thought carried          1.2 MB: grown only while its open steps' verdicts, 16 KiB each, would fit in as well
    answer                   64 steps of 14 KiB, the answer, the tally
"""

import re
from hashlib import blake2b

import msgspec

from schemas.values import Ask

MAX_STEP_BYTES = 131_072
MAX_BALLOTS_BYTES = 524_288  # of all answers of one vote
MAX_ANSWER_CHARS = 4_096  # of schemas.values.ShortText
MAX_ANSWER_BYTES = 14_336  # 4,096 characters of up to three bytes are within it
MAX_VERDICT_BYTES = 16_384
MAX_THOUGHT_BYTES = 1_200_000
MAX_TALLY_ROWS = 8  # that a verdict keeps for a strategy
MAX_TALLY_ANSWER_BYTES = 160

_CUT = "…"
_MARK_BYTES = 24  # of the mark that a cut text ends with
_MARK = re.compile(f"{_CUT}[0-9a-f]{{12}}")


def size(value: object) -> int:
    """The bytes that a value takes in an event."""
    return len(msgspec.json.encode(value))


def cut(text: str, max_bytes: int) -> str:
    """`text` within so many bytes: as it is, or its beginning and a mark of all of it, so that unlike texts stay unlike."""
    if _is_within(text, max_bytes):
        return text
    return f"{beginning(text, max_bytes - _MARK_BYTES)}{_CUT}{blake2b(text.encode(), digest_size=6).hexdigest()}"


def beginning(text: str, max_bytes: int) -> str:
    """As much of a text from its start as takes at most so many bytes."""
    if _is_within(text, max_bytes):
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if size(text[:middle]) <= max_bytes else (low, middle - 1)
    return text[:low]


def _is_within(text: str, max_bytes: int) -> bool:
    return len(text) * 6 <= max_bytes or size(text) <= max_bytes  # a character takes six bytes at most


def is_cut(text: str) -> bool:
    """True for a text that `cut` has left a beginning of."""
    return _MARK.fullmatch(text[-13:]) is not None


def cut_ballot(answer: str, ask: Ask) -> str:
    """An answer within the share of it that a vote of this ask has room for; the same for every ballot of the vote."""
    return cut(answer, min(MAX_ANSWER_BYTES, MAX_BALLOTS_BYTES // ask.max_samples))
