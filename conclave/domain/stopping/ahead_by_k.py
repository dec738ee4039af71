"""A lead of so many votes, and another one where votes are contested."""

from conclave.domain.params import Param, Params, whole_number
from conclave.domain.stopping.labels import Labels, top_two
from schemas.values import MAX_SAMPLES, Ask

PARAMS: Params = {
    "lead": Param(3, 1, MAX_SAMPLES, is_whole=True),
    "contested_lead": Param(0, 0, MAX_SAMPLES, is_whole=True),
}


def num_needed(labels: Labels, ask: Ask) -> int:
    """Satisfied once the leader has `lead` votes more than the runner-up; where there is one, `contested_lead` if that is more."""
    leader, runner_up = top_two(labels)
    lead = whole_number(ask.params, PARAMS, "lead")
    if runner_up:
        lead = max(lead, whole_number(ask.params, PARAMS, "contested_lead"))
    return max(0, lead - (leader - runner_up))
