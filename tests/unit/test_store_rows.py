"""Events as rows of the record."""

from msgspec.structs import replace

from conclave.domain.recorded import RecordedEvent
from conclave.store.rows import TABLES, rows_of
from conclave.testing import events as made
from schemas.values import Ballot, TallyRow


def test_a_ballot_is_recorded_with_the_answer_that_it_counts_for() -> None:
    answers = ["0.48", "12/25", None, "...", "12/25 "]
    rows = [0, 0, None, None, 7]  # the last as a forged verdict may have it
    ballots = [Ballot(sample_index=i, answer=answers[i], tally_row=rows[i]) for i in range(5)]
    verdict = replace(made.verdict(), tally=(TallyRow(answer="0.48", votes=2, weight=2.0),), ballots=tuple(ballots))
    recorded = rows_of([RecordedEvent(verdict, "event", "key", "topic", 0, 0, made.NOW_MS, None)])
    column = TABLES["ballots"].index("answer")
    assert [row[column] for row in recorded["ballots"]] == ["0.48", "0.48", None, "...", "12/25 "]
