"""The only module that knows Presidio (the extra `presidio`), which finds names, places and numbers of many countries.

What it finds stands as `[PERSON]` and the like. It is asked by one thread at a time, and takes some milliseconds a text.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from conclave.domain.redaction import Mask, Span, without
from conclave.errors import Misconfigured, WrongSetting


class Found(Protocol):
    """What Presidio tells of a thing that it has found."""

    @property
    def entity_type(self) -> str: ...
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def score(self) -> float: ...


Analyze = Callable[..., Sequence[Found]]


def analyzer(config: Path | None, entities: Sequence[str], language: str) -> Analyze:
    """Presidio's own, as a file describes it, or as it comes. Raises: Misconfigured where it can't be made, or lacks an entity."""
    try:
        from presidio_analyzer import AnalyzerEngineProvider
    except ImportError:
        raise _wrong("the package presidio-analyzer (the extra `presidio`)", ", ".join(entities)) from None
    try:
        engine: Any = AnalyzerEngineProvider(analyzer_engine_conf_file=config).create_engine()
        known = set(engine.get_supported_entities(language))
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        ImportError,
        SystemExit,
    ) as error:  # no model: spaCy would end us
        raise _wrong(
            f"an analyzer that can be made ({type(error).__name__}: {error})"[:300], str(config or "")
        ) from None
    if unknown := sorted(set(entities) - known):
        raise _wrong(f"any of {', '.join(sorted(known))}", ", ".join(unknown))
    found: Analyze = engine.analyze
    return found


def by_presidio(analyze: Analyze, entities: Sequence[str], *, language: str, score: float) -> Mask:
    """What masks all that `analyze` finds of these entities, being at least so sure."""
    lock = threading.Lock()

    def mask(text: str) -> str:
        if not text or text.isspace():
            return text
        with lock:
            found = analyze(text=text, language=language, entities=list(entities), score_threshold=score)
        return without(text, [Span(each.start, each.end, each.entity_type, each.score) for each in found])

    return mask


def _wrong(expected: str, got: str) -> Misconfigured:
    return Misconfigured([WrongSetting("CONCLAVE_PRESIDIO_ENTITIES", expected, got)])
