import random

import pytest

from conclave.domain.correlation import correlation, effective_votes


def drawn(rho: float, error_rate: float, num_paths: int, num_questions: int, seed: int) -> list[tuple[int, int]]:
    """Questions whose error rates are Beta-distributed, so that errors on one have just this correlation."""
    rng, spread = random.Random(seed), (1 - rho) / rho
    found = []
    for _ in range(num_questions):
        rate = rng.betavariate(error_rate * spread, (1 - error_rate) * spread)
        found.append((sum(rng.random() < rate for _ in range(num_paths)), num_paths))
    return found


@pytest.mark.parametrize("rho", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("num_paths", [3, 16])
def test_the_correlation_that_errors_were_drawn_with_is_found(rho: float, num_paths: int) -> None:
    found = correlation(drawn(rho, 0.3, num_paths, 4_000, seed=1))
    assert found is not None
    assert found.rho == pytest.approx(rho, abs=0.04)
    assert found.error_rate == pytest.approx(0.3, abs=0.02)


def test_paths_that_are_all_right_or_all_wrong_err_as_one() -> None:
    found = correlation([(0, 4), (4, 4), (0, 7), (7, 7), (0, 1)])
    assert found is not None
    assert found.rho == pytest.approx(1.0)
    assert found.num_questions == 4


def test_errors_that_do_not_go_together_correlate_by_nothing() -> None:
    found = correlation(drawn(1e-6, 0.5, 3, 4_000, seed=2))
    assert found is not None
    assert abs(found.rho) < 0.03


@pytest.mark.parametrize("wrong", [[], [(1, 1)], [(0, 3), (0, 3)], [(3, 3)]])
def test_where_nothing_or_everything_is_wrong_nothing_can_be_told(wrong: list[tuple[int, int]]) -> None:
    assert correlation(wrong) is None


def test_correlated_votes_are_worth_fewer() -> None:
    assert [effective_votes(16, rho) for rho in (0.0, 1.0, -0.2)] == [16.0, 1.0, 16.0]
    assert effective_votes(16, 0.4) == pytest.approx(16 / 7)
    assert effective_votes(0, 0.4) == 0.0
