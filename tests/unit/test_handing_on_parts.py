"""The parts of a turn that was cut are the turn."""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.values import FinishReason
from services.decoder import handing_on
from tests.handed_on import part

pieces = st.lists(
    st.tuples(st.text(alphabet="ab#é\N{GRINNING FACE} \n", max_size=4), st.floats(-20, 0, width=32)),
    min_size=2,
    max_size=30,
)


@given(pieces, st.data())
@settings(max_examples=60)
def test_the_parts_of_a_turn_are_the_turn_wherever_it_was_cut(
    tokens: list[tuple[str, float]], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(tokens)))
    before, rest = handing_on.begun(part(tokens[:cut], is_cut=True), "m"), part(tokens[cut:])
    assert handing_on.joined(before, rest) == part(tokens)


@given(pieces, st.data())
@settings(max_examples=60)
def test_a_stop_string_across_the_cut_ends_the_turn_before_it(
    tokens: list[tuple[str, float]], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(tokens)))
    stop = data.draw(st.text(alphabet="ab#", min_size=1, max_size=3))
    text, place = "".join(piece for piece, _ in tokens), len("".join(piece for piece, _ in tokens[:cut]))
    found = handing_on.joined(handing_on.begun(part(tokens[:cut]), "m"), part(tokens[cut:]), (stop,))
    across = [
        at for at in range(max(0, place - len(stop) + 1), place) if text.startswith(stop, at) and at + len(stop) > place
    ]
    if across:
        assert (found.text, found.finish_reason) == (text[: across[0]], FinishReason.STOP)
        assert "".join(found.token_texts).startswith(text[: across[0]] + stop)
        assert (found.tokens_out, found.is_cut) == (len(tokens), False)
    else:
        assert found == part(tokens)


def test_what_json_cannot_hold_is_replaced_in_text_and_tokens_alike() -> None:
    before = handing_on.begun(replace(part([("a\0", -1.0), ("\ud800b", -2.0)]), is_cut=True), "m")
    assert (before.text, before.pieces) == ("a\N{REPLACEMENT CHARACTER}?b", ("a\N{REPLACEMENT CHARACTER}", "?b"))
