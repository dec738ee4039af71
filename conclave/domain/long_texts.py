"""Texts too long for an event: its end stays there, and all of it goes beside in chunks that its digest addresses."""

from collections.abc import Sequence
from hashlib import blake2b

from conclave.domain.bounds import size
from schemas.events import TextStored
from schemas.values import MAX_CHUNK_CHARS, MAX_CHUNKS, LongText

MAX_TEXT_BYTES = 262_144
MAX_LONG_TEXT_CHARS = MAX_CHUNKS * MAX_CHUNK_CHARS
_SHOWN_CHARS = 16_384  # of the end: an answer stands there


def is_long(text: str) -> bool:
    """True for a text that goes beside its event."""
    return len(text) * 6 > MAX_TEXT_BYTES and size(text) > MAX_TEXT_BYTES


def stored(request_id: str, text: str) -> tuple[str, LongText, Sequence[TextStored]]:
    """A long text's end for its event, what the event says of all of it, and the chunks that hold it.

    The same text gives the same chunks, so what is published twice is stored once. Beyond 4 Mi characters it is cut.
    """
    text = text[:MAX_LONG_TEXT_CHARS]
    digest = blake2b(text.encode(), digest_size=32).hexdigest()
    parts = [text[start : start + MAX_CHUNK_CHARS] for start in range(0, len(text), MAX_CHUNK_CHARS)]
    chunks = [
        TextStored(request_id=request_id, digest=digest, chunk_index=index, text=part)
        for index, part in enumerate(parts)
    ]
    return text[-_SHOWN_CHARS:], LongText(digest=digest, num_chunks=len(chunks), num_chars=len(text)), chunks
