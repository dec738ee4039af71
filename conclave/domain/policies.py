"""The named reasoning policies: `POLICIES`, a row each. A request names one; the whole row travels in its events."""

from msgspec.structs import replace

from schemas.values import Policy, StoppingRule

FIXED = StoppingRule.FIXED
DIRECT = "direct"  # the form that asks for the answer at once

# One short answer, the likeliest one.
_AT_ONCE = Policy(
    name="direct", prompt_set="reasoner-v3", form=DIRECT, stopping=FIXED, max_samples=1, temperature=0.0, max_tokens=32
)

# fmt: off
_ROWS: tuple[Policy, ...] = (
    Policy(name="default", prompt_set="reasoner-v3"),
    _AT_ONCE,
    Policy(name="single",         prompt_set="reasoner-v3", stopping=FIXED, max_samples=1),
    Policy(name="fixed-8",        prompt_set="reasoner-v3", stopping=FIXED, max_samples=8),
    Policy(name="fixed-16",       prompt_set="reasoner-v3", stopping=FIXED, max_samples=16),
    Policy(name="early-stopping", prompt_set="reasoner-v3", stopping=StoppingRule.EARLY_STOPPING, max_samples=20),
    Policy(name="ahead-3",        prompt_set="reasoner-v3", stopping=StoppingRule.AHEAD_BY_K),
    Policy(name="instruct",       prompt_set="instruct-v1", temperature=0.7, top_p=0.95, max_tokens=2048),
    replace(_AT_ONCE, name="instruct-direct", prompt_set="instruct-v1", max_tokens=128),
)
# fmt: on

POLICIES: dict[str, Policy] = {policy.name: policy for policy in _ROWS}
