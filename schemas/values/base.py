"""Bounds, and the texts and numbers that fields are made of."""

import re
from collections.abc import Callable
from typing import Annotated

from msgspec import Meta

from schemas.ids import UUID7_PATTERN

MAX_QUESTION_CHARS = 16_384
MAX_TEXT_CHARS = 262_144
MAX_CHUNK_CHARS = 65_536  # 384 KiB at most, as a character takes six bytes at most in JSON
MAX_CHUNKS = 64
MAX_SAMPLES = 256
MAX_TURNS = 64
MAX_STEPS = 64
MAX_ASKS = 16
MAX_SCHEMA_CHARS = 8_192

# PostgreSQL stores no NUL in text, and a NUL in a question is never meant.
NO_NUL_PATTERN = r"^[^\u0000]*$"

# What shows nothing: white space, control and formatting characters, fillers, variation selectors, tags.
_BLANK = (
    "[\\u0000-\\u0020\\u007f-\\u00a0\\u00ad\\u034f\\u061c\\u115f\\u1160\\u1680\\u17b4\\u17b5\\u180b-\\u180f\\u2000-\\u200f"
    "\\u2028-\\u202f\\u205f-\\u206f\\u2800\\u3000\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff9-\\ufffb\U000e0000-\U000e0fff]"
)
BLANK_PATTERN = f"^{_BLANK}*$"
_is_blank: Callable[[str], re.Match[str] | None] = re.compile(f"{_BLANK}*").fullmatch

Uuid7 = Annotated[str, Meta(pattern=UUID7_PATTERN, max_length=36, description="UUIDv7 in lower case")]
Question = Annotated[str, Meta(min_length=1, max_length=MAX_QUESTION_CHARS, pattern=NO_NUL_PATTERN)]
Name = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9._-]*$", max_length=64)]
Text = Annotated[str, Meta(max_length=MAX_TEXT_CHARS)]
ShortText = Annotated[str, Meta(max_length=4096, pattern=NO_NUL_PATTERN)]
Label = Annotated[str, Meta(max_length=256, pattern=NO_NUL_PATTERN)]
IdempotencyKey = Annotated[str, Meta(min_length=1, max_length=256, pattern=NO_NUL_PATTERN)]
PolicyReference = Annotated[str, Meta(max_length=80)]  # no pattern: an unknown name is refused at the door, by name
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="BLAKE2b-256 of the text in UTF-8")]
PolicyVersion = Annotated[int, Meta(ge=1, le=1_000_000)]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
TokenLimit = Annotated[int, Meta(ge=1, le=2**53, description="tokens generated")]
FiniteNumber = Annotated[float, Meta(ge=-1e15, le=1e15)]
Scale = Annotated[int, Meta(ge=2, le=1000)]
SampleIndex = Annotated[int, Meta(ge=0, lt=MAX_SAMPLES)]
SampleCount = Annotated[int, Meta(ge=1, le=MAX_SAMPLES)]
StepIndex = Annotated[int, Meta(ge=0, lt=MAX_STEPS)]
TimestampMs = Annotated[int, Meta(ge=0, lt=2**48, description="milliseconds since 1970-01-01 UTC")]
Seconds = Annotated[float, Meta(ge=0.0, le=1e9)]
DurationMs = Annotated[float, Meta(ge=0.0)]
LogProbability = Annotated[float, Meta(le=0.0, description="natural logarithm")]


def is_blank(text: str) -> bool:
    """True for a text that shows nothing: empty, white space, or characters of no width."""
    return _is_blank(text) is not None
