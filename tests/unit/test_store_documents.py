"""Documents in passages."""

from hypothesis import given
from hypothesis import strategies as st

from conclave.store.documents import MAX_PASSAGE_CHARS, passages


@given(st.text("ab \n", max_size=5_000) | st.text(max_size=300))
def test_passages_hold_every_word_and_are_short(content: str) -> None:
    found = passages(content)
    assert all(0 < len(each) <= MAX_PASSAGE_CHARS for each in found)
    assert "".join("".join(found).split()) == "".join(content.split())


def test_short_paragraphs_share_a_passage_and_a_long_one_is_cut_between_words() -> None:
    assert passages("one\n\ntwo") == ["one\n\ntwo"]
    cut = passages("word " * 500)
    assert len(cut) == 3
    assert all(each.endswith("word") for each in cut)
    assert passages("x" * 3_000) == ["x" * 1_200, "x" * 1_200, "x" * 600]
