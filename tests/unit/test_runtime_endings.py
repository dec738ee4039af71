"""The law of endings: whatever a handler or joiner does, what was read ends once, and what waits for it hears of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from conclave.domain import planning
from conclave.domain.joining import Decision, Wait
from conclave.errors import Rejected
from conclave.runtime import translation
from conclave.runtime.dead_letters import Cause, Reason, cause_of
from conclave.runtime.endings import Ending, Endings
from conclave.runtime.groups import Group
from conclave.runtime.handler import Arrival
from conclave.runtime.limits import MAX_DEAD_LETTERS_BYTES
from conclave.runtime.record import Record
from conclave.runtime.translation import Translator
from conclave.testing import events as made
from schemas.codec import Defect, UnreadableEvent
from schemas.envelope import Headers, header
from schemas.events import Event, ReasoningRequested, RequestFailed, TallyCarried
from schemas.values import RequestFailure

REQUEST = ReasoningRequested(question="2+2?", request_id=made.REQUEST_ID)
FAILED = RequestFailed(request_id=made.REQUEST_ID, failure=RequestFailure.INVALID, message="given up")
HUGE = made.verdict(answer="\1" * 4096, num_votes=256)
BROKEN = replace(made.decoded(made.context(), 0, 1, "4"), tokens_out=-1)


@dataclass(frozen=True)
class FakeRecord:
    """A record as a broker would deliver it."""

    offset: int = 0
    topic: str = "reasoning.requests"
    key: bytes | None = made.REQUEST_ID.encode()
    value: bytes | None = b"{}"
    headers: Headers = ()
    partition: int = 0
    timestamp: int = made.NOW_MS


@dataclass
class Told:
    """A handler and joiner whose last words are what the test says."""

    last_words: Callable[[], Sequence[Event]] = lambda: [FAILED]

    async def handle(self, event: Event, arrival: Arrival) -> Sequence[Event]:
        raise NotImplementedError

    def give_up(self, event: Event, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        return self.last_words()

    def unreadable(self, value: bytes | None, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        return self.last_words()


@dataclass
class ToldJoiner:
    """The same for a joiner."""

    last_words: Callable[[], Decision] = lambda: Decision((FAILED,))

    def key(self, event: Event) -> str:
        return "k"

    def join(self, events: Sequence[Event], now_ms: int) -> Decision | Wait:
        raise NotImplementedError

    def carry(self, events: Sequence[Event]) -> Event:
        raise NotImplementedError

    def give_up(self, events: Sequence[Event], cause: Cause, now_ms: int) -> Decision:
        return self.last_words()


def endings(last_words: Callable[[], Sequence[Event]] = lambda: [FAILED], *, service: str = "decomposer") -> Endings:
    return Endings(Translator(service, lambda: made.NOW_MS), handler=Told(last_words))


def joined(last_words: Callable[[], Decision] = lambda: Decision((FAILED,))) -> Endings:
    return Endings(Translator("voter", lambda: made.NOW_MS), joiner=ToldJoiner(last_words))


def group(*events: Event) -> Group:
    return Group("k", {10 + i: (FakeRecord(10 + i, "reasoning.paths"), event) for i, event in enumerate(events)})


def reasons(ending: Ending) -> list[str]:
    """Why the dead letters of an ending are there, in order."""
    found = [header(output.headers, "conclave-reason") for output in ending.completion.outputs]
    return [reason for reason in found if reason]


def said(ending: Ending) -> list[str]:
    """The types of the events that an ending publishes."""
    return [
        name.split(".")[1]
        for output in ending.completion.outputs
        if header(output.headers, "conclave-reason") is None and (name := header(output.headers, "ce_type"))
    ]


def test_what_a_handler_makes_of_an_event_is_its_ending() -> None:
    ending = endings().handled(FakeRecord(7), REQUEST, [made.plan()])
    assert (ending.outcome, ending.completion.offsets) == ("handled", (7,))
    assert (said(ending), reasons(ending)) == (["PlanMade"], [])


@pytest.mark.parametrize(
    ("outputs", "reason", "field"),
    [
        ([made.plan(), HUGE], "output_too_large", None),
        ([made.plan(), BROKEN], "output_invalid", "$.tokens_out"),
        ([replace(FAILED, message="\ud800")], "output_invalid", None),
        ([replace(FAILED, tokens_in=float("nan"))], "output_invalid", "$.tokens_in"),
        ([ReasoningRequested(question="no key")], "output_invalid", None),
        (["no event"], "output_invalid", None),
    ],
    ids=["too large", "breaks its schema", "no text", "no number", "no key", "no event"],
)
def test_an_output_that_nobody_could_read_gives_its_cause_up_with_all_other_outputs(
    outputs: list[Event], reason: str, field: str | None
) -> None:
    ending = endings().handled(FakeRecord(7), REQUEST, outputs)
    assert (ending.outcome, ending.completion.offsets) == (reason, (7,))
    assert (reasons(ending), said(ending)) == ([reason], ["RequestFailed"])
    assert header(ending.completion.outputs[0].headers, "conclave-field") == field


@pytest.mark.parametrize("error", [Rejected("$.policy", "a policy", "none"), ZeroDivisionError("oops")])
def test_an_event_that_is_given_up_is_a_dead_letter_and_its_last_words_in_one_completion(error: Exception) -> None:
    ending = endings().failed(FakeRecord(7), REQUEST, cause_of(error, 4))
    assert ending.completion.offsets == (7,)
    assert (len(reasons(ending)), said(ending)) == (1, ["RequestFailed"])


def test_a_group_that_is_given_up_is_a_dead_letter_for_each_of_its_records() -> None:
    events = [made.decoded(made.context(), index, 3, "4") for index in range(3)]
    ending = joined().decided(group(*events), Decision((made.verdict(), HUGE)))
    assert (ending.outcome, ending.completion.offsets) == ("output_too_large", (10, 11, 12))
    assert reasons(ending) == ["output_too_large"] * 3
    assert [header(output.headers, "conclave-offset") for output in ending.completion.outputs[:3]] == ["10", "11", "12"]
    assert said(ending) == ["RequestFailed"]


def test_a_carry_that_is_too_large_gives_its_group_up() -> None:
    carry = TallyCarried(context=made.context(), launched=256, ballots=HUGE.ballots, is_decided=False)
    ending = joined().decided(group(made.failed(made.context(), 0, 2)), Decision((), carry))
    assert (reasons(ending), said(ending)) == (["output_too_large"], ["RequestFailed"])


def test_what_a_group_leaves_behind_goes_to_its_own_partition() -> None:
    carry = TallyCarried(context=made.context(), launched=2, ballots=(), is_decided=True)
    law = joined(lambda: Decision((FAILED,), carry))
    ending = law.group_failed(group(made.failed(made.context(), 0, 2)), Cause(Reason.HANDLER, "a bug"))
    assert said(ending) == ["RequestFailed", "TallyCarried"]
    assert ending.completion.outputs[-1].partition == 0
    assert ending.carry is ending.completion.outputs[-1]


def test_a_carry_at_fault_is_carried_again_but_not_for_ever() -> None:
    carry = TallyCarried(context=made.context(), launched=2, ballots=(), is_decided=True)
    law = joined(lambda: Decision((), carry))
    headers: Headers = ()
    carried: list[list[str]] = []
    for _ in range(5):
        open_group = Group("k", {10: (FakeRecord(10, "reasoning.paths", headers=headers), carry)})
        ending = law.group_failed(open_group, Cause(Reason.HANDLER, "a bug"))
        assert reasons(ending) == ["handler"]
        carried.append(said(ending))
        headers = ending.carry.headers if ending.carry is not None else headers
    assert carried == [["TallyCarried"]] * 3 + [[]] * 2


def test_a_carry_that_says_less_than_before_is_another_one() -> None:
    ballots = made.verdict(answer="4", num_votes=2).ballots
    carry = TallyCarried(context=made.context(), launched=4, ballots=ballots, is_decided=False)
    law = joined(lambda: Decision((), replace(carry, ballots=())))
    worn = Group("k", {10: (FakeRecord(10, "reasoning.paths", headers=(("conclave-given-up", b"9"),)), carry)})
    assert law.group_failed(worn, Cause(Reason.HANDLER, "a bug")).carry is not None


def test_last_words_that_fail_or_do_not_fit_cost_neither_the_dead_letter_nor_the_other_words() -> None:
    def fail() -> Sequence[Event]:
        raise ZeroDivisionError

    cause = Cause(Reason.HANDLER, "a bug")
    ending = endings(fail).failed(FakeRecord(7), REQUEST, cause)
    assert (ending.completion.offsets, reasons(ending), said(ending)) == ((7,), ["handler"], [])
    ending = endings(lambda: [HUGE, FAILED]).failed(FakeRecord(7), REQUEST, cause)
    assert (reasons(ending), said(ending)) == (["handler"], ["RequestFailed"])


def test_a_record_that_cannot_be_read_is_answered_by_the_guardian_of_its_topic_alone() -> None:
    error = UnreadableEvent(Defect.SCHEMA, "$.question", "expected `str`")
    ending = endings().unreadable(FakeRecord(7), error)
    assert (ending.completion.offsets, reasons(ending)) == ((7,), ["schema"])
    assert said(ending) == ["RequestFailed"]
    other = endings(service="voter").unreadable(FakeRecord(7), error)
    assert (other.completion.offsets, other.completion.outputs) == ((7,), ())


def test_a_broken_record_under_the_id_of_a_request_that_is_being_answered_does_not_end_it() -> None:
    error = UnreadableEvent(Defect.SCHEMA, "$.question", "expected `str`")
    ending = endings().unreadable(FakeRecord(7), error, known={made.REQUEST_ID})
    assert (reasons(ending), said(ending)) == (["schema"], [])


def test_outputs_that_are_too_much_for_one_transaction_give_their_cause_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translation, "MAX_COMPLETION_BYTES", 10_000)
    wave = planning.wave(made.context(), 0, 20)
    assert endings().handled(FakeRecord(7), REQUEST, wave[:8]).outcome == "handled"
    ending = endings().handled(FakeRecord(7), REQUEST, wave)
    assert (reasons(ending), said(ending)) == (["output_too_large"], ["RequestFailed"])


def test_the_dead_letters_of_a_large_group_go_without_values_once_they_are_too_much_for_one_transaction() -> None:
    events = [made.failed(made.context(), index, 20) for index in range(20)]
    value = b"x" * 1_900_000
    records: dict[int, tuple[Record, Event]] = {
        number: (FakeRecord(number, "reasoning.paths", value=value), event) for number, event in enumerate(events)
    }
    ending = joined().group_failed(Group("k", records), Cause(Reason.HANDLER, "a bug"))
    assert reasons(ending) == ["handler"] * 20
    sizes = [len(output.value or b"") for output in ending.completion.outputs[:20]]
    assert sizes == [1_900_000] * 8 + [0] * 12
    assert sum(output.size for output in ending.completion.outputs) < MAX_DEAD_LETTERS_BYTES + 100_000


def test_the_longest_that_a_sample_can_be_asked_and_answer_fits_a_record() -> None:
    context = made.context(fields={f"f{number}": "\1" * 16_384 for number in range(3)})
    path = replace(made.decoded(context, 255, 256, "\1" * 4096), text="\1" * 262_144)
    law = endings(service="decoder")
    assert law.handled(FakeRecord(7), REQUEST, [path]).outcome == "handled"
