"""Which samples come to one decoder."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from conclave.domain import planning
from conclave.domain.affinity import SAMPLES_TOGETHER, conversation_key
from conclave.runtime.kafka.partitions import partition_of
from conclave.testing import events as made
from schemas import flow
from schemas.events import SampleRequested
from schemas.values import MAX_SAMPLES

PARTITIONS = range(24)
LABELS = st.text(st.characters(exclude_characters="\0"), max_size=12)


def _partition(sample: SampleRequested) -> int:
    return partition_of(flow.key_of(sample).encode(), PARTITIONS, PARTITIONS)


def _samples(num: int = MAX_SAMPLES, **changes: Any) -> tuple[SampleRequested, ...]:
    return planning.wave(made.context(**changes), 0, num)


@settings(max_examples=50, deadline=None)
@given(LABELS, LABELS, st.integers(0, MAX_SAMPLES - 1))
def test_a_later_turn_of_a_conversation_goes_to_the_partition_of_the_earlier_ones(
    tenant: str, conversation: str, sample_index: int
) -> None:
    key = conversation_key(tenant, conversation)
    first = _samples(conversation=key)[sample_index]
    later = _samples(conversation=key, request_id=made.REQUEST_ID.replace("a", "b"), index=3, mark="#3")[sample_index]
    assert first.step_id != later.step_id
    assert flow.key_of(first) == flow.key_of(later)


@settings(max_examples=50, deadline=None)
@given(st.tuples(LABELS, LABELS), st.tuples(LABELS, LABELS))
def test_conversations_are_told_apart_and_so_are_those_of_two_tenants(one: Any, other: Any) -> None:
    assert (conversation_key(*one) == conversation_key(*other)) is (one == other)


def test_the_first_samples_of_a_step_share_its_key_and_a_large_vote_uses_several_decoders() -> None:
    samples = _samples()
    assert {flow.key_of(sample) for sample in samples[:SAMPLES_TOGETHER]} == {made.context().step_id}
    assert max(Counter(flow.key_of(sample) for sample in samples).values()) == SAMPLES_TOGETHER
    assert len({_partition(sample) for sample in samples}) > len(PARTITIONS) // 2


def test_the_blocks_of_a_conversation_are_the_same_ones_in_every_turn() -> None:
    key = conversation_key("a", "b")
    turns = [_samples(conversation=key, index=index) for index in range(3)]
    assert len({tuple(flow.key_of(sample) for sample in turn) for turn in turns}) == 1
    assert len({flow.key_of(sample) for sample in turns[0]}) == MAX_SAMPLES // SAMPLES_TOGETHER


def test_samples_that_are_held_against_each_other_all_come_together() -> None:
    ask = made.ask(params={"confidence_keep": 0.1})
    assert {flow.key_of(sample) for sample in planning.wave(made.context(ask), 0, MAX_SAMPLES)} == {
        made.context().step_id
    }


def test_many_conversations_of_one_tenant_use_all_partitions_alike() -> None:
    counts = Counter(
        _partition(_samples(1, conversation=conversation_key("large", str(number)))[0]) for number in range(2_400)
    )
    assert set(counts) == set(PARTITIONS)
    assert max(counts.values()) < 2 * min(counts.values())


def test_the_subject_of_a_sample_is_its_request_whatever_its_key() -> None:
    for conversation in ("", conversation_key("a", "b")):
        for sample in _samples(conversation=conversation):
            assert flow.subject_of(sample, flow.key_of(sample)) == made.REQUEST_ID


def test_what_an_older_service_launched_has_the_key_that_it_gave_it() -> None:
    sample = replace(_samples(1)[0], affinity="")
    assert flow.key_of(sample) == sample.step_id
