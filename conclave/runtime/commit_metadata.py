"""The completed set in an offset commit's metadata: `1:` (plain) or `2:` (zlib) and a bitset in base64.

Bit i stands for offset low + i. The span of at most MAX_SPAN offsets makes 2,048 bytes, 2,732 characters of base64, so it
always fits a broker's default limit of 4,096 characters.
"""

import base64
import binascii
import zlib

from conclave.runtime.tracker import MAX_SPAN, Commit

_PLAIN, _ZLIB = "1:", "2:"


def encode(commit: Commit) -> str:
    """The metadata of a commit; empty when nothing above the watermark is done."""
    if not commit.done:
        return ""
    bits = 0
    for offset in commit.done:
        bits |= 1 << (offset - commit.low)
    plain = bits.to_bytes((bits.bit_length() + 7) // 8, "little")
    packed = zlib.compress(plain, 6) if len(plain) > 64 else plain
    prefix, data = (_ZLIB, packed) if len(packed) < len(plain) else (_PLAIN, plain)
    return prefix + base64.b64encode(data).decode()


def decode(low: int, metadata: str | None) -> Commit | None:
    """The commit that `encode` made; None for metadata that is not ours (treat it as nothing known above `low`)."""
    if not metadata:
        return Commit(low)
    bits = _bits(metadata)
    if bits is None:
        return None
    return Commit(low, frozenset(low + i for i in range(1, bits.bit_length()) if bits >> i & 1))


def num_done(metadata: str | None) -> int:
    """How many offsets are done above the watermark; 0 for metadata that is not ours."""
    return (_bits(metadata) or 0).bit_count() if metadata else 0


def _bits(metadata: str) -> int | None:
    prefix, data = metadata[:2], metadata[2:]
    if prefix not in (_PLAIN, _ZLIB):
        return None
    try:
        raw = base64.b64decode(data, validate=True)
        plain = zlib.decompressobj().decompress(raw, MAX_SPAN // 8 + 1) if prefix == _ZLIB else raw
    except (binascii.Error, zlib.error, ValueError):
        return None
    return int.from_bytes(plain, "little") if len(plain) <= MAX_SPAN // 8 + 1 else None
