"""The law of endings on the services' own handlers: any engine, any bytes, any fault, and each record ends exactly once."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conclave.engine.protocol import EngineLoad
from conclave.engine.trouble import Trouble, TroubleListener, ignore
from conclave.policies.current import CurrentPolicies
from conclave.runtime.dead_letters import cause_of
from conclave.runtime.endings import Ending, Endings
from conclave.runtime.handler import Handler
from conclave.runtime.limits import MAX_RECORD_BYTES
from conclave.runtime.translation import Translator
from conclave.testing import events as made
from schemas import codec, flow
from schemas.codec import UnreadableEvent
from schemas.envelope import Headers, header
from schemas.events import (
    Event,
    PathDecoded,
    PathFailed,
    PlanMade,
    ReasoningRequested,
    RequestFailed,
    SampleRequested,
)
from services.decoder.handler import Decoder
from services.decomposer.handler import Decomposer
from services.decomposer.settings import DecomposerSettings

SAMPLE = SampleRequested(context=made.context(), sample_index=0, launched=1)


@dataclass(frozen=True)
class FakeRecord:
    """A record as a broker would deliver it."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    offset: int = 7
    partition: int = 0
    timestamp: int = made.NOW_MS


@dataclass
class AnyEngine:
    """Says whatever the test has it say, or raises it."""

    said: Any
    max_running: int = 1
    name: str = "any"
    model: str = "any"

    async def start(self, hear: TroubleListener = ignore) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    def trouble(self) -> Trouble | None:
        """None."""
        return None

    def load(self) -> EngineLoad:
        """Idle."""
        return EngineLoad(0, 0, 0.0)

    async def decode(self, request: Any) -> Any:
        """What it was told."""
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


@dataclass
class Said:
    """What a broken engine takes for a decoded path."""

    text: Any
    finish_reason: Any
    tokens_in: Any
    tokens_out: Any
    mean_logprob: Any
    min_logprob: Any
    queued_ms: Any
    first_token_ms: Any
    total_ms: Any
    reasoning: Any = ""


def outputs_of(ending: Ending) -> list[Event]:
    """The events that an ending publishes, dead letters apart: all of them can be read."""
    outputs = [each for each in ending.completion.outputs if not each.topic.endswith(flow.DEAD_LETTER_SUFFIX)]
    assert all(each.size <= MAX_RECORD_BYTES for each in ending.completion.outputs)
    return [codec.decode(each.topic, header(each.headers, "ce_type"), each.value) for each in outputs]


def ended(handler: Handler, service: str, record: FakeRecord) -> Ending:
    """How the record ends, as the runtime has it end; each attempt being the last one."""
    translator = Translator(service, lambda: made.NOW_MS)
    endings = Endings(translator, handler=handler)
    try:
        event = translator.read(record)
    except UnreadableEvent as error:
        return endings.unreadable(record, error)
    try:
        outputs: Sequence[Event] = asyncio.run(_handled(handler, event, translator.arrival(record)))
    except Exception as error:  # noqa: BLE001  (as the runtime does)
        return endings.failed(record, event, cause_of(error))
    return endings.handled(record, event, outputs)


async def _handled(handler: Handler, event: Event, arrival: Any) -> Sequence[Event]:
    return list(await handler.handle(event, arrival))


anything = st.sampled_from(
    [None, -1, 0, 7, 2**60, 10**400, 1.5, -0.5, float("nan"), float("-inf"), "7", b"7", [], {}, True, object()]
)
texts = st.sampled_from(
    ["Answer: 4", "", "\0", "\ud800", "x" * 3_000_000, "\1" * 262_144, "Answer: " + "\1" * 5_000, None, 7]
)
broken = st.builds(Said, texts, anything, anything, anything, anything, anything, anything, anything, anything, texts)
faults = st.sampled_from([ZeroDivisionError(), KeyError("\0\ud800"), MemoryError(), RecursionError("x" * 10_000)])


@given(broken | faults | anything)
@settings(max_examples=300, deadline=None)
def test_whatever_an_engine_says_or_raises_its_sample_has_exactly_one_terminal_event(said: Any) -> None:
    record = FakeRecord("reasoning.samples", b"k", codec.encode(SAMPLE))
    ending = ended(Decoder(AnyEngine(said)), "decoder", record)
    (end,) = outputs_of(ending)
    assert isinstance(end, PathDecoded | PathFailed)
    assert (end.context, end.sample_index) == (SAMPLE.context, 0)
    assert ending.completion.offsets == (7,)


QUESTIONS = {"short": "2+2?", "escaped": "q" + "\1" * 16_383, "wide": "漢" * 16_384}
GARBAGE: dict[str, bytes | None] = {
    "none": None, "empty": b"", "bytes": b"\xff\x00", "deep": b"[" * 100_000, "null": b"null", "a number": b'{"question": 7}',
    "too large": b'{"question": "' + b"x" * 3_000_000 + b'"}',
}  # fmt: skip
KEYS = [made.REQUEST_ID, made.REQUEST_ID.upper()]
FAULTS = [None, ZeroDivisionError, MemoryError]


def asked(question: str, policy: str | None) -> bytes:
    request = ReasoningRequested(question=QUESTIONS[question], policy=policy, request_id=made.REQUEST_ID)
    return codec.encode(request)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("key", [*KEYS, "another key"])
@pytest.mark.parametrize("policy", [None, "default", "no-such-policy", "fixed-16"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_request_ends_once_or_comes_back_under_its_key_whatever_fails(
    question: str, policy: str | None, key: str, fault: type[Exception] | None
) -> None:
    check(asked(question, policy), key, fault)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("garbage", GARBAGE)
def test_what_is_no_request_but_has_an_id_fails_under_it(garbage: str, key: str) -> None:
    check(GARBAGE[garbage], key, None)


def check(value: bytes | None, key: str, fault: type[Exception] | None) -> None:
    """The record has exactly one end, under its request's id; only a plan launches anything."""
    decomposer = Decomposer(DecomposerSettings(), CurrentPolicies("default"))
    if fault is not None:

        async def fail(event: Event, arrival: Any) -> Sequence[Event]:
            raise fault

        decomposer.handle = fail  # type: ignore[method-assign]
    ending = ended(decomposer, "decomposer", FakeRecord("reasoning.requests", key.encode(), value))
    said = outputs_of(ending)
    ends = [each for each in said if isinstance(each, PlanMade | RequestFailed | ReasoningRequested)]
    assert len(ends) == 1
    assert flow.subject_of(ends[0]) == made.REQUEST_ID
    assert isinstance(ends[0], PlanMade) or said == ends, "what is not planned launches nothing"
    assert ending.completion.offsets == (7,)
