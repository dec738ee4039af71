"""What a client shows of a request while its paths come in."""

from conclave.cli.progress import Progress
from conclave.testing import events as made


def test_the_votes_so_far_are_counted_as_the_voter_counts_them_whatever_the_order_of_arrival() -> None:
    progress = Progress(made.REQUEST_ID)
    for index, answer in [(3, "36.0"), (1, "Paris"), (0, "36"), (2, None), (4, "...")]:
        assert progress.hear(made.decoded(made.context(), index, 5, answer))
    assert (progress.steps[0].votes(), progress.steps[0].num_paths) == ({"36": 2, "Paris": 1}, 5)
