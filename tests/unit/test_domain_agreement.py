"""Agreement of judges: a published example, and what must hold of any."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conclave.domain.statistics.agreement import agreement

# Krippendorff (2011), section C: four observers, twelve units; alpha for nominal data is 0.743.
_A, _B, _C, _D = (
    "123321412...",
    "12332241 25.3".replace(" ", ""),
    ".33323422 51.".replace(" ", ""),
    "123324412 51.".replace(" ", ""),
)


def test_the_published_example_comes_to_the_published_figure() -> None:
    units = [[value for value in column if value != "."] for column in zip(_A, _B, _C, _D, strict=True)]
    found = agreement(units)
    assert found is not None
    assert found.alpha == pytest.approx(0.743, abs=0.0005)
    assert (found.num_units, found.num_judgements) == (11, 40)


@given(st.lists(st.lists(st.booleans(), max_size=4), max_size=30))
@settings(max_examples=60)
def test_judges_that_agree_have_one_and_names_of_values_do_not_matter(units: list[list[bool]]) -> None:
    found, other = agreement(units), agreement([[not value for value in values] for values in reversed(units)])
    assert (found is None) == (other is None)
    if found is not None and other is not None and found.alpha is not None:
        assert other.alpha == pytest.approx(found.alpha)
        assert found.alpha <= 1
        assert (found.alpha == 1) == all(len(set(values)) == 1 for values in units if len(values) > 1)


def test_where_nothing_differs_or_nobody_judged_twice_nothing_is_said() -> None:
    assert agreement([["right"], []]) is None
    found = agreement([["right", "right"], ["right", "right"]])
    assert found is not None
    assert (found.alpha, found.observed) == (None, 1.0)
