import pytest

from conclave.domain import counting
from conclave.domain.quality import QUALITIES, of_quality
from conclave.testing import events as made
from schemas.values import Ask


@pytest.mark.parametrize("name", QUALITIES)
def test_a_class_names_a_rule_that_is_there_with_parameters_that_it_takes(name: str) -> None:
    ask = of_quality(made.ask(), name)
    assert counting.unknown_rule(ask) is None
    declared = counting.params_of(ask)
    assert all(declared[param].takes(value) for param, value in ask.params.items())


def test_the_stricter_a_class_the_more_samples_it_needs_at_least() -> None:
    assert [counting.deficit((), of_quality(made.ask(), name)) for name in QUALITIES] == [3, 4, 6]


def test_what_is_asked_once_is_no_vote_and_stays_as_it_is() -> None:
    once = made.ask("single")
    assert of_quality(once, "strict") == once
    assert of_quality(made.ask(), None) == of_quality(made.ask(), "of-tomorrow") == made.ask()


def test_parameters_of_other_rules_are_kept_and_those_of_the_replaced_one_are_not() -> None:
    ask = Ask(form="any", stopping="early_stopping", voting="quorum", params={"window": 3, "quorum": 0.6})
    assert of_quality(ask, "economy").params == {"quorum": 0.6, "stop_confidence": 0.88}
