"""How a question is put whose answer has to fit a schema."""

from msgspec.structs import replace

from conclave.domain.programs import structured
from schemas.values import Ask, Policy

STRATEGY, ASK, PROGRAM = "vote", "whole", "once"
FORM = structured.STRUCTURED


def of_schema(ask: Ask, schema: str) -> Ask:
    """The ask with a last turn that gives the answer as the schema has it; as it is without one."""
    if not schema:
        return ask
    return replace(ask, program="structured", max_turns=2, answer_schema=schema)


def can_structure(policy: Policy) -> bool:
    """True for a policy whose answer is that of one vote on paths of one turn: to these a turn can be added."""
    return policy.strategy == STRATEGY and ASK in policy.asks and policy.asks[ASK].program == PROGRAM
