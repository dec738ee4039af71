"""`python -m tests.recorded`: bytes of every event as the present code writes them, for the readers of later versions.

Run when a version is released (`python -m schemas release`), and never again for that version: what lies in logs stays
as it was written. The draws are the contracts' own (tests/drawn.py), with a seed, so edges are among them.
"""

from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

import schemas
from schemas import codec
from schemas.envelope import parse_type
from schemas.events import Event
from tests.drawn import EVENTS

RELEASED = Path(schemas.__file__).parent / "released"
_NUM_DRAWN = 25


def drawn(event: type[Event]) -> list[bytes]:
    """Different encoded events of one type, in the order in which they were drawn."""
    found: dict[bytes, None] = {}

    @seed(len(event.__name__))
    @settings(
        max_examples=_NUM_DRAWN,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(EVENTS[event])
    def draw(each: Event) -> None:
        found[codec.encode(each)] = None

    draw()
    return list(found)


def folder(event: type[Event]) -> Path:
    """Where the released schema and bytes of the event's present version lie."""
    parsed = parse_type(codec.versioned_type(event))
    assert parsed is not None
    return RELEASED / f"v{parsed[1]}"


def main() -> None:
    """Writes the bytes of each event that is released and has none yet."""
    for event in EVENTS:
        path = folder(event) / f"{event.__name__}.jsonl"
        if path.with_suffix(".json").exists() and not path.exists():
            path.write_bytes(b"".join(line + b"\n" for line in drawn(event)))


if __name__ == "__main__":
    main()
