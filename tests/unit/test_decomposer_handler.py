import pytest
from msgspec.structs import replace

from conclave.errors import Misconfigured, Rejected
from conclave.policies.current import CurrentPolicies
from conclave.runtime.dead_letters import Cause, Reason, cause_of
from conclave.runtime.handler import Arrival
from conclave.testing import events as made
from schemas import codec
from schemas.events import PlanMade, ReasoningRequested, RequestFailed, SampleRequested
from schemas.ids import asked_at_ms, derived_request_id, is_request_id
from schemas.values import RequestFailure
from services.decomposer.handler import Decomposer
from services.decomposer.settings import DecomposerSettings

REQUEST = ReasoningRequested(question="2+2?", request_id=made.REQUEST_ID)
DAY_MS = 86_400_000


def arrival(key: str = made.REQUEST_ID, recorded_ms: int = made.NOW_MS) -> Arrival:
    return Arrival("event", key, recorded_ms, recorded_ms + 7, "reasoning.requests/0/42")


@pytest.fixture
def decomposer() -> Decomposer:
    return Decomposer(DecomposerSettings(), CurrentPolicies("default"))


async def test_a_request_becomes_its_plan_and_the_first_wave(decomposer: Decomposer) -> None:
    plan, *samples = await decomposer.handle(REQUEST, arrival())
    assert isinstance(plan, PlanMade)
    assert (plan.policy, plan.deadline_ms) == (made.policy(), made.NOW_MS + 600_000)
    assert [sample.sample_index for sample in samples if isinstance(sample, SampleRequested)] == [0, 1, 2, 3]
    assert {sample.context.step.fields["question"] for sample in samples if isinstance(sample, SampleRequested)} == {
        "2+2?"
    }


async def test_a_request_without_an_id_comes_back_under_one_that_is_the_same_on_a_re_read(
    decomposer: Decomposer,
) -> None:
    once = await decomposer.handle(ReasoningRequested(question="2+2?"), arrival(key=""))
    again = await decomposer.handle(ReasoningRequested(question="2+2?"), arrival(key=""))
    assert once == again
    assert isinstance(once[0], ReasoningRequested)
    request_id = once[0].request_id
    assert request_id is not None
    assert is_request_id(request_id)
    assert asked_at_ms(request_id) == made.NOW_MS
    assert isinstance((await decomposer.handle(once[0], arrival(key=request_id)))[0], PlanMade)


@pytest.mark.parametrize("key", ["", "someone's own key"])
async def test_a_request_under_another_key_comes_back_under_its_id(decomposer: Decomposer, key: str) -> None:
    assert await decomposer.handle(REQUEST, arrival(key=key)) == [REQUEST]


async def test_an_unknown_policy_is_rejected_by_name_and_the_request_fails(decomposer: Decomposer) -> None:
    with pytest.raises(Rejected, match=r"\$\.policy: expected one of .*default, .*got 'clever'") as caught:
        await decomposer.handle(replace(REQUEST, policy="clever"), arrival())
    (failed,) = decomposer.give_up(replace(REQUEST, policy="clever"), arrival(), cause_of(caught.value))
    assert isinstance(failed, RequestFailed)
    assert (failed.request_id, failed.failure) == (made.REQUEST_ID, RequestFailure.INVALID)
    assert "clever" in failed.message


async def test_a_quality_replaces_the_stopping_rule_of_every_vote_and_an_unknown_one_is_rejected(
    decomposer: Decomposer,
) -> None:
    plan, *samples = await decomposer.handle(replace(REQUEST, quality="economy"), arrival())
    assert isinstance(plan, PlanMade)
    assert (plan.policy, plan.quality) == (made.policy(), "economy")
    asks = [sample.context.ask for sample in samples if isinstance(sample, SampleRequested)]
    assert [(ask.stopping, dict(ask.params)) for ask in asks] == [
        ("adaptive_consistency", {"stop_confidence": 0.88})
    ] * 3
    assert decomposer.request_key(replace(REQUEST, quality="best"), arrival()) is None
    with pytest.raises(Rejected, match=r"\$\.quality: expected one of economy, standard, strict, got 'best'"):
        await decomposer.handle(replace(REQUEST, quality="best"), arrival())


async def test_a_schema_that_cannot_be_taken_is_rejected_by_its_field_and_a_sound_one_travels_with_the_plan(
    decomposer: Decomposer,
) -> None:
    schema = {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "integer"}}}
    asked = replace(REQUEST, policy="instruct", answer_schema=schema)
    plan, *samples = await decomposer.handle(asked, arrival())
    assert isinstance(plan, PlanMade)
    assert plan.answer_schema == '{"type":"object","properties":{"n":{"type":"integer"}}}'
    asks = {sample.context.ask.answer_schema for sample in samples if isinstance(sample, SampleRequested)}
    assert asks == {plan.answer_schema}
    broken = replace(asked, answer_schema={"type": "object", "properties": {"n": {"type": "string", "pattern": "a+"}}})
    assert decomposer.request_key(broken, arrival()) is None
    with pytest.raises(Rejected, match=r"\$\.answer_schema\.properties\.n\.pattern"):
        await decomposer.handle(broken, arrival())


@pytest.mark.parametrize("offset_ms", [-7 * DAY_MS - 1, DAY_MS + 1, 2**48 - 1 - made.NOW_MS, -made.NOW_MS])
async def test_an_id_from_another_time_is_rejected_and_the_request_fails(
    decomposer: Decomposer, offset_ms: int
) -> None:
    request_id = derived_request_id(made.NOW_MS + offset_ms, "another time")
    with pytest.raises(Rejected) as caught:
        await decomposer.handle(replace(REQUEST, request_id=request_id), arrival(key=request_id))
    assert caught.value.field == "$.request_id"
    (failed,) = decomposer.give_up(
        replace(REQUEST, request_id=request_id), arrival(key=request_id), cause_of(caught.value)
    )
    assert isinstance(failed, RequestFailed)
    assert (failed.request_id, failed.failure) == (request_id, RequestFailure.INVALID)


async def test_a_request_that_is_given_up_fails_under_the_id_that_it_has_or_would_have_got(
    decomposer: Decomposer,
) -> None:
    cause = Cause(Reason.HANDLER, "ZeroDivisionError: \0 \ud800")
    (failed,) = decomposer.give_up(REQUEST, arrival(), cause)
    assert isinstance(failed, RequestFailed)
    assert (failed.request_id, failed.failure) == (made.REQUEST_ID, RequestFailure.NO_ANSWER)
    assert codec.decode("reasoning.answers", codec.versioned_type(RequestFailed), codec.encode(failed)) == failed
    unnamed = ReasoningRequested(question="2+2?")
    (republished,) = await decomposer.handle(unnamed, arrival(key=""))
    (failed,) = decomposer.give_up(unnamed, arrival(key=""), cause)
    assert isinstance(failed, RequestFailed)
    assert isinstance(republished, ReasoningRequested)
    assert failed.request_id == republished.request_id


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (made.REQUEST_ID, b"\xff\x00"),
        (made.REQUEST_ID.upper(), None),
        ("", f'{{"request_id": "{made.REQUEST_ID}", "qestion": "2+2?"}}'.encode()),
        ("someone's own key", f'{{"request_id": "{{{made.REQUEST_ID.upper()}}}"}}'.encode()),
        (made.REQUEST_ID, b'{"request_id": 7, "question": "2+2?"}'),
    ],
)
def test_an_unreadable_request_fails_under_the_id_that_can_still_be_made_out(
    decomposer: Decomposer, key: str, value: bytes | None
) -> None:
    cause = Cause(Reason.SCHEMA, "expected `str`", "$.question")
    (failed,) = decomposer.unreadable(value, arrival(key=key), cause)
    assert isinstance(failed, RequestFailed)
    assert (failed.request_id, failed.failure) == (made.REQUEST_ID, RequestFailure.INVALID)
    assert failed.message.startswith("$.question: expected `str`; in the record reasoning.requests/0/42")


@pytest.mark.parametrize(
    "value", [None, b"", b"{", b"[" * 5000, b"[]", b'{"request_id": "17"}', b'{"request_id": null}']
)
def test_an_unreadable_request_without_key_and_id_has_nobody_to_answer(
    decomposer: Decomposer, value: bytes | None
) -> None:
    cause = Cause(Reason.UNDECODABLE, "expected JSON")
    nameless = Arrival("reasoning.requests/0/42", "", made.NOW_MS, made.NOW_MS, "reasoning.requests/0/42")
    assert decomposer.unreadable(value, nameless, cause) == []


@pytest.mark.parametrize("offset_ms", [-7 * DAY_MS, DAY_MS])
async def test_an_id_at_the_edge_of_the_window_is_taken(decomposer: Decomposer, offset_ms: int) -> None:
    request_id = derived_request_id(made.NOW_MS + offset_ms, "edge")
    assert isinstance(
        (await decomposer.handle(replace(REQUEST, request_id=request_id), arrival(key=request_id)))[0], PlanMade
    )


def test_only_a_valid_request_under_its_own_key_counts_for_recognising_duplicates(decomposer: Decomposer) -> None:
    old = derived_request_id(made.NOW_MS - 8 * DAY_MS, "old")
    assert decomposer.request_key(REQUEST, arrival()) == made.REQUEST_ID
    assert decomposer.request_key(REQUEST, arrival(key="other")) is None
    assert decomposer.request_key(ReasoningRequested(question="?"), arrival(key="")) is None
    assert decomposer.request_key(replace(REQUEST, policy="clever"), arrival()) is None
    assert decomposer.request_key(replace(REQUEST, request_id=old), arrival(key=old)) is None
    assert decomposer.request_key(made.verdict(), arrival()) is None


async def test_an_event_of_another_type_is_rejected(decomposer: Decomposer) -> None:
    with pytest.raises(Rejected, match="ce_type"):
        await decomposer.handle(made.verdict(), arrival())


@pytest.mark.parametrize("reference", ["default", "default@1"])
async def test_a_policy_may_be_named_with_its_version(decomposer: Decomposer, reference: str) -> None:
    plan = (await decomposer.handle(replace(REQUEST, policy=reference), arrival()))[0]
    assert isinstance(plan, PlanMade)
    assert (plan.policy.name, plan.policy.version) == ("default", 1)


@pytest.mark.parametrize(
    "reference", ["default@2", "default@", "default@1@1", "default@x", "@1", "", "default@" + "9" * 60]
)
async def test_a_version_that_there_is_not_is_refused(decomposer: Decomposer, reference: str) -> None:
    with pytest.raises(Rejected, match=r"\$\.policy"):
        await decomposer.handle(replace(REQUEST, policy=reference), arrival())


def test_an_unknown_default_policy_is_a_wrong_setting() -> None:
    with pytest.raises(Misconfigured, match=r"CONCLAVE_DEFAULT_POLICY: expected .*default.*, got 'clever'"):
        CurrentPolicies("clever")


async def test_a_priority_and_the_tenant_travel_in_the_plan_and_every_sample_and_an_unknown_one_is_rejected(
    decomposer: Decomposer,
) -> None:
    asked = replace(REQUEST, priority="batch", tags={"tenant": "shop"})
    plan, *samples = await decomposer.handle(asked, arrival())
    assert isinstance(plan, PlanMade)
    assert (plan.priority, plan.tenant) == ("batch", "shop")
    contexts = [sample.context for sample in samples if isinstance(sample, SampleRequested)]
    assert [(context.priority, context.tenant) for context in contexts] == [("batch", "shop")] * 4
    plan, *_ = await decomposer.handle(REQUEST, arrival())
    assert isinstance(plan, PlanMade)
    assert (plan.priority, plan.tenant) == ("standard", "")
    assert decomposer.request_key(replace(REQUEST, priority="urgent"), arrival()) is None
    with pytest.raises(Rejected, match=r"\$\.priority: expected one of interactive, standard, batch, got 'urgent'"):
        await decomposer.handle(replace(REQUEST, priority="urgent"), arrival())


def _turn(number: int, **tags: str) -> tuple[ReasoningRequested, Arrival]:
    """A request of its own, and when it came: all at one moment."""
    request_id = derived_request_id(made.NOW_MS, f"turn {number}")
    return ReasoningRequested(question="2+2?", request_id=request_id, tags=tags), arrival(key=request_id)


async def _plan_of(decomposer: Decomposer, number: int, **tags: str) -> PlanMade:
    """Its plan, whose conversation all of its samples carry."""
    plan, *samples = await decomposer.handle(*_turn(number, **tags))
    assert isinstance(plan, PlanMade)
    assert {each.context.conversation for each in samples if isinstance(each, SampleRequested)} == {plan.conversation}
    return plan


async def test_the_turns_of_a_conversation_carry_what_it_is_known_by_and_never_another_tenants(
    decomposer: Decomposer,
) -> None:
    first, second = [(await _plan_of(decomposer, n, conversation="ours")).conversation for n in range(2)]
    others = [await _plan_of(decomposer, 2, conversation="ours", tenant="b"), await _plan_of(decomposer, 3)]
    assert first == second != ""
    assert "ours" not in first
    assert [plan.conversation for plan in others] == [others[0].conversation, ""]
    assert others[0].conversation != first


async def test_what_is_no_dialogue_is_spread_over_all_decoders_and_its_plan_says_so() -> None:
    settings = DecomposerSettings(conversation_per_minute=3)
    decomposer = Decomposer(settings, CurrentPolicies("default"))
    plans = [await _plan_of(decomposer, number, conversation="batch") for number in range(5)]
    assert [bool(plan.conversation) for plan in plans] == [True, True, True, False, False]
    assert "3 turns a minute" in plans[-1].reasons["conversation"]
    assert (await _plan_of(decomposer, 9, conversation="another")).conversation


async def test_the_tag_that_names_a_conversation_is_the_operators_to_choose() -> None:
    decomposer = Decomposer(DecomposerSettings(conversation_tag="thread"), CurrentPolicies("default"))
    assert (await _plan_of(decomposer, 0, conversation="x")).conversation == ""
    assert (await _plan_of(decomposer, 1, thread="x")).conversation
