"""What a client shows of a request while its paths come in."""

from io import StringIO

import pytest
from msgspec.structs import replace
from rich.console import Console

from conclave.cli.asking import _print as show
from conclave.cli.progress import Progress
from conclave.testing import events as made
from schemas.events import RequestFailed
from schemas.values import RequestFailure


def test_the_votes_so_far_are_counted_as_the_voter_counts_them_whatever_the_order_of_arrival() -> None:
    progress = Progress(made.REQUEST_ID)
    for index, answer in [(3, "36.0"), (1, "Paris"), (0, "36"), (2, None), (4, "...")]:
        assert progress.hear(made.decoded(made.context(), index, 5, answer))
    assert (progress.steps[0].votes(), progress.steps[0].num_paths) == ({"36": 2, "Paris": 1}, 5)


@pytest.mark.parametrize(("model", "is_shipped"), [("reasoner", True), ("Qwen3-8B", False)])
def test_ask_says_which_model_answered_and_what_to_expect_of_the_one_that_ships(model: str, is_shipped: bool) -> None:
    progress, out = Progress(made.REQUEST_ID), StringIO()
    assert progress.hear(replace(made.decoded(made.context(), 0, 1, "36"), model=model))
    failed = RequestFailed(request_id=made.REQUEST_ID, failure=RequestFailure.NO_ANSWER, message="m", num_paths=1)
    show(Console(file=out, width=200), failed, progress.models)
    (line,) = [each for each in out.getvalue().splitlines() if each.startswith("model")]
    assert model in line
    assert ("arithmetic word problems only" in line) is is_shipped
