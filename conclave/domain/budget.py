"""What a request may still spend, and what a step of it may: reserved before it is asked, settled by what its paths cost.

    of the plan     the policy's tokens and dollars, less what its verdicts cost
    of a step       an equal share of that for each step that is asked together, or what its ask allows if that is less
    of a wave       as many paths as the step could pay for if each wrote all that it may

So what is generated stays within the budget whatever the model says. Of prompts nobody knows the length before they are read: they
are charged once they are, and reserved at the length of the longest so far.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from schemas.values import MAX_SAMPLES, Allowance, Ask, Ballot, Policy, Price, Step, Verdict

Number = TypeVar("Number", int, float)

_MILLION = 1_000_000
_LEAST_TOKENS = 16  # of a path that is worth decoding


def left(policy: Policy, verdicts: Iterable[Verdict], *, own: int | None = None) -> Allowance:
    """What is left of a policy's budget after these verdicts; nothing is said of what it does not limit.

    `own` is the request's own limit on tokens.
    """
    budget, decided = policy.budget, list(verdicts)
    price = dearest(policy)
    tokens_in, tokens_out = (sum(each.tokens_in for each in decided), sum(each.tokens_out for each in decided))
    tokens, dollars = _least(budget.max_tokens, own), budget.max_dollars
    return Allowance(
        max_tokens=None if tokens is None else max(0, tokens - tokens_out),
        max_dollars=None if dollars is None else max(0.0, dollars - cost(price, tokens_in, tokens_out)),
        price=price,
    )


def affords(policy: Policy, of_plan: Allowance, steps: Sequence[Step]) -> bool:
    """True while each of the steps, asked together, gets enough for a path that is worth decoding."""
    asks = [policy.asks[step.ask] for step in steps]
    if of_plan.max_dollars == 0.0:
        return False
    return all(limited(ask, of_plan, len(asks)).max_tokens >= min(ask.max_tokens, _LEAST_TOKENS) for ask in asks)


def limited(ask: Ask, of_plan: Allowance, num_steps: int) -> Ask:
    """The ask of one of `num_steps` steps that are asked together, within what is left; one path of it can always be paid."""
    own, tokens, dollars = ask.allowance or Allowance(), of_plan.max_tokens, of_plan.max_dollars
    tokens = _least(None if tokens is None else tokens // num_steps, own.max_tokens)
    dollars = _least(None if dollars is None else dollars / num_steps, own.max_dollars)
    if tokens is None and dollars is None:
        return ask
    allowance = Allowance(max_tokens=tokens, max_dollars=dollars, price=of_plan.price)
    most = _least(tokens, _tokens_for(dollars, of_plan.price))
    turn = ask.max_tokens if most is None else max(1, min(ask.max_tokens, most // ask.max_turns))
    return replace(ask, allowance=allowance, max_tokens=turn)


def num_affordable(ballots: Sequence[Ballot], ask: Ask, *, num_open: int = 0) -> int:
    """How many more paths a step can pay for, now that `ballots` are in and `num_open` are under way; one at the beginning."""
    allowance = ask.allowance
    if allowance is None:
        return MAX_SAMPLES
    tokens_of_path = ask.max_tokens * ask.max_turns
    tokens_in, tokens_out = sum(each.tokens_in for each in ballots), sum(each.tokens_out for each in ballots)
    found = [MAX_SAMPLES]
    if allowance.max_tokens is not None:
        found.append((allowance.max_tokens - tokens_out) // tokens_of_path - num_open)
    if allowance.max_dollars is not None:
        longest = max((each.tokens_in for each in ballots), default=0)
        of_path = cost(allowance.price, longest, tokens_of_path)
        unspent = allowance.max_dollars - cost(allowance.price, tokens_in, tokens_out)
        # A thousandth more: an allowance that is exactly one path must not be missed by the rounding of a share.
        if of_path > 0.0:
            found.append(int(min(2.0 * MAX_SAMPLES, 1.001 * unspent / of_path)) - num_open)
    return max(min(found), 0 if ballots or num_open else 1)


def cost(price: Price, tokens_in: int, tokens_out: int) -> float:
    """Dollars."""
    return (tokens_in * price.tokens_in + tokens_out * price.tokens_out) / _MILLION


def dearest(policy: Policy) -> Price:
    """The highest of a policy's prices for each kind of token, as a plan does not know who will decode; free without any."""
    return Price(
        tokens_in=max((each.tokens_in for each in policy.prices.values()), default=0.0),
        tokens_out=max((each.tokens_out for each in policy.prices.values()), default=0.0),
    )


def _tokens_for(dollars: float | None, price: Price) -> int | None:
    """How many generated tokens so many dollars buy; None where they cost nothing."""
    if dollars is None or price.tokens_out == 0.0:
        return None
    return int(min(1.001 * dollars * _MILLION / price.tokens_out, 2.0**53))


def _least(one: Number | None, other: Number | None) -> Number | None:
    return min((each for each in (one, other) if each is not None), default=None)
