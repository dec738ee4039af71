"""The weights that ship: what is no word problem is declined, and a problem is not."""

from pathlib import Path

import pytest

from training.declined import declining_probabilities
from training.generator import held_out
from training.non_problems import written

_CHECKOUT = Path(__file__).resolve().parents[2]
_MODEL = _CHECKOUT / "models" / "reasoner"


@pytest.mark.timeout(300)
def test_of_a_hundred_texts_that_are_no_word_problem_most_paths_decline_at_least_95() -> None:
    texts = written(_CHECKOUT / "data" / "problems" / "non_problems.jsonl")
    assert len(texts) == 100
    assert sum(each > 0.5 for each in declining_probabilities(_MODEL, texts)) >= 95


@pytest.mark.timeout(300)
def test_of_the_held_out_problems_hardly_a_path_declines_one() -> None:
    assert max(declining_probabilities(_MODEL, [each.question for each in held_out(40)])) < 0.01
