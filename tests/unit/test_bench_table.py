"""The page of measures says what the results say."""

from benchmarks.measuring import result_path
from benchmarks.table import PAGE, ROWS, page


def test_the_page_of_measures_is_that_of_the_results() -> None:
    assert PAGE.read_text() == page(), "run `python -m benchmarks.table`"


def test_every_figure_that_was_recorded_is_found() -> None:
    missing = [line for line in page().splitlines() if "*not recorded*" in line]
    assert len(missing) == sum(not result_path(row.result).exists() for row in ROWS)
