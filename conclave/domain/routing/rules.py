"""A router as data: rules in order, each with what must hold of a question and the policy that it is then given."""

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, Struct

from conclave.domain.routing.features import FEATURES, Seen
from schemas.values import Label, Name, PolicyReference, PolicyVersion, Probability

Bounds = Annotated[dict[Name, float], Meta(max_length=32)]
Words = Annotated[tuple[Label, ...], Meta(max_length=256)]

MAX_IN_A_ROW = 100


class Rule(Struct, frozen=True, kw_only=True):
    """All of its conditions must hold; a rule without any holds of every question.

    With `in_a_row` above 1 it is a switch: on once so many questions in a row matched it, off once so many did not.
    """

    name: Name
    policy: Annotated[PolicyReference, Meta(min_length=1)]
    intents: Annotated[tuple[Name, ...], Meta(max_length=16)] = ()
    at_least: Bounds = {}  # of a question's figures, by the names of FEATURES
    at_most: Bounds = {}
    any_of: Words = ()  # words, one of which is in the question; of several words each
    none_of: Words = ()
    tags: Annotated[dict[Label, Label], Meta(max_length=16)] = {}  # "*" is any value
    tenants: Words = ()
    min_difficulty: Probability | None = None
    max_difficulty: Probability | None = None
    # What both limits become where the load or the budget is at its end; None: they stay.
    min_difficulty_at_limit: Probability | None = None
    max_difficulty_at_limit: Probability | None = None
    in_a_row: Annotated[int, Meta(ge=1, le=MAX_IN_A_ROW)] = 1

    @property
    def needs_difficulty(self) -> bool:
        """True when it goes by the classifier."""
        return self.min_difficulty is not None or self.max_difficulty is not None


class Limits(Struct, frozen=True, kw_only=True):
    """What one decomposer may give out before its rules take the values that they have at their limit."""

    thoughts_per_minute: Annotated[float, Meta(gt=0.0)] | None = None  # requests of other policies than `cheap`
    tokens_per_hour: Annotated[float, Meta(gt=0.0)] | None = None  # generated, as the record has it, by all services
    cheap: Annotated[tuple[Name, ...], Meta(max_length=32)] = ("direct",)  # policies that are no load


class Router(Struct, frozen=True, kw_only=True):
    """Rules, the first of which that holds decides; where none does, the request gets what it would without a router."""

    name: Name
    version: PolicyVersion = 1
    digest: Label = ""  # of all the rest, and of its classifier
    scope: Label = ""  # the tag whose value tells which questions are counted in a row; "" or no such tag: the tenant
    classifier: Label = ""  # a file beside the router's, needed by rules that go by difficulty
    limits: Limits = Limits()
    rules: Annotated[tuple[Rule, ...], Meta(min_length=1, max_length=64)]


class Told(Struct, frozen=True):
    """What is known of a request besides its question."""

    tags: dict[str, str]
    tenant: str = ""
    difficulty: float | None = None  # None: no classifier
    pressure: float = 0.0  # 0: all is free; 1: load or budget is at its end


def spoken_for(rule: Rule, seen: Seen, told: Told) -> list[str] | None:
    """What speaks for the rule, a text for each of its conditions; None when one does not hold."""
    found = []
    for text in _conditions(rule, seen, told):
        if text is None:
            return None
        found.append(text)
    return found


def _conditions(rule: Rule, seen: Seen, told: Told) -> Iterator[str | None]:
    """For each condition of the rule what speaks for it, None where it does not hold; the cheap ones first."""
    for name, value in rule.tags.items():
        given = told.tags.get(name)
        yield f"tag {name} is {given}" if given is not None and value in ("*", given) else None
    if rule.tenants:
        yield f"tenant {told.tenant}" if told.tenant in rule.tenants else None
    for name, least in rule.at_least.items():
        figure = FEATURES[name](seen)
        yield f"{name} {figure:g} ≥ {least:g}" if figure >= least else None
    for name, most in rule.at_most.items():
        figure = FEATURES[name](seen)
        yield f"{name} {figure:g} ≤ {most:g}" if figure <= most else None
    if rule.any_of:
        word = next((each for each in rule.any_of if _is_in(each, seen)), None)
        yield f"says {word}" if word is not None else None
    if rule.none_of:
        yield None if any(_is_in(each, seen) for each in rule.none_of) else "says no word that is ruled out"
    if rule.intents:
        yield f"intent {seen.intent}" if seen.intent in rule.intents else None
    yield from _difficulty(rule, told)


def _difficulty(rule: Rule, told: Told) -> Iterator[str | None]:
    known = told.difficulty
    if rule.min_difficulty is not None:
        least = under_pressure(rule.min_difficulty, rule.min_difficulty_at_limit, told.pressure)
        yield f"difficulty {known:.3f} ≥ {least:.3f}" if known is not None and known >= least else None
    if rule.max_difficulty is not None:
        most = under_pressure(rule.max_difficulty, rule.max_difficulty_at_limit, told.pressure)
        yield f"difficulty {known:.3f} ≤ {most:.3f}" if known is not None and known <= most else None


def under_pressure(free: float, at_limit: float | None, pressure: float) -> float:
    """A threshold between what it is where all is free and what it is at the limit, in proportion to the pressure."""
    return free if at_limit is None else free + (at_limit - free) * min(max(pressure, 0.0), 1.0)


def _is_in(phrase: str, seen: Seen) -> bool:
    """True when the question has the words and signs of the phrase, one after the other."""
    wanted, said = Seen(phrase).texts, seen.texts
    return bool(wanted) and any(said[at : at + len(wanted)] == wanted for at in range(len(said) - len(wanted) + 1))
