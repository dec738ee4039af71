import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conclave.domain.long_texts import MAX_LONG_TEXT_CHARS, MAX_TEXT_BYTES, is_long, stored
from conclave.runtime.limits import MAX_OUTPUT_BYTES
from conclave.testing import events as made
from schemas import codec

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")


@pytest.mark.parametrize(
    ("text", "is_beyond"),
    [
        ("", False),
        ("a" * (MAX_TEXT_BYTES - 2), False),
        ("a" * (MAX_TEXT_BYTES - 1), True),
        ("\u0001" * 43_690, False),
        ("\u0001" * 43_691, True),
    ],
)
def test_a_text_is_long_by_the_bytes_that_it_takes_in_an_event(text: str, is_beyond: bool) -> None:
    assert is_long(text) is is_beyond


@given(st.text(characters, min_size=1, max_size=50), st.integers(1, 8_000))
@settings(max_examples=50, deadline=None)
def test_the_chunks_of_a_text_are_the_text_and_each_fits_a_record(text: str, times: int) -> None:
    whole = text * times
    shown, where, chunks = stored(made.REQUEST_ID, whole)
    assert "".join(chunk.text for chunk in chunks) == whole
    assert whole.endswith(shown)
    assert (where.num_chunks, where.num_chars) == (len(chunks), len(whole))
    assert [chunk.chunk_index for chunk in chunks] == list(range(len(chunks)))
    for chunk in chunks:
        value = codec.encode(chunk)
        assert len(value) < MAX_OUTPUT_BYTES
        assert codec.decode("reasoning.texts", codec.versioned_type(type(chunk)), value) == chunk


def test_the_same_text_is_stored_under_the_same_digest_and_another_under_another() -> None:
    assert stored(made.REQUEST_ID, "a" * 300_000)[1:] == stored(made.REQUEST_ID, "a" * 300_000)[1:]
    assert stored(made.REQUEST_ID, "a" * 300_000)[1].digest != stored(made.REQUEST_ID, "a" * 300_001)[1].digest


def test_a_text_without_end_is_cut() -> None:
    _, where, chunks = stored(made.REQUEST_ID, "x" * (MAX_LONG_TEXT_CHARS + 1))
    assert (where.num_chars, len(chunks)) == (MAX_LONG_TEXT_CHARS, 64)
