"""A copy of a request that another policy answers unseen (decision 0040)."""

from msgspec.structs import replace

from conclave.domain import external
from schemas.events import ReasoningRequested
from schemas.experiments import ShadowOf
from schemas.ids import shadow_id
from schemas.values import Policy


def can_shadow(policy: Policy) -> bool:
    """True for a policy that nobody notices: a step that calls a tool with an effect would be noticed."""
    return not any(external.is_external(ask) for ask in policy.asks.values())


def copy_of(request: ReasoningRequested, request_id: str, policy: Policy, experiment: str) -> ReasoningRequested:
    """The copy: under an id that derives from the request's, so that reading it again makes no other; thought anew in any case."""
    return replace(
        request,
        request_id=shadow_id(request_id),
        idempotency_key=None,
        policy=f"{policy.name}@{policy.version}",
        max_age_s=0.0,
        priority="batch",  # nobody waits for it
        shadow=ShadowOf(request_id=request_id, experiment=experiment),
    )
