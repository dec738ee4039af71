"""A remembered answer, and the question that it is of."""

from conclave.domain.recall import Remembered, Wanted
from conclave.testing import events as made
from schemas.ids import derived_request_id
from schemas.values import Fingerprint, Outcome, TallyRow

FIRST = derived_request_id(made.NOW_MS - 5000, "first")
QUESTION = "Tom has 3 nuts and buys 4. How many nuts does Tom have?"
FOUND = Remembered(
    request_id=FIRST,
    key="k",
    answer="7",
    outcome=Outcome.MAJORITY,
    confidence=0.9,
    margin=0.8,
    agreement=0.9,
    entropy=0.4,
    tally=(TallyRow(answer="7", votes=9, weight=9.0), TallyRow(answer="8", votes=1, weight=1.0)),
    tokens_out=300,
    answered_ms=made.NOW_MS - 4000,
)


def wanted(key: str = "k", at: str = "here", **changes: object) -> Wanted:
    values: dict[str, object] = {"max_age_s": 3600.0, "at": at, "deadline_s": 600.0}
    return Wanted(Fingerprint(key=key, gist=f"gist of {key}"), **(values | changes))  # type: ignore[arg-type]
