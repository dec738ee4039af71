"""How questions are put, what they may cost, and the policies that say so."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.values.base import (
    MAX_ASKS,
    MAX_SCHEMA_CHARS,
    MAX_STEPS,
    MAX_TURNS,
    Count,
    Label,
    Name,
    PolicyReference,
    PolicyVersion,
    Probability,
    SampleCount,
    TimestampMs,
)
from schemas.values.wording import Wording

Params = Annotated[dict[Name, float], Meta(max_length=32)]
Dollars = Annotated[float, Meta(ge=0.0)]


class Price(Struct, frozen=True, kw_only=True):
    """What a model costs, in dollars per million tokens."""

    tokens_in: Dollars = 0.0
    tokens_out: Dollars = 0.0


class Allowance(Struct, frozen=True, kw_only=True):
    """What the paths of one step may cost together; whoever launches them reserves before a wave what it may cost at most."""

    max_tokens: Annotated[Count | None, Meta(description="generated")] = None
    max_dollars: Dollars | None = None
    price: Price = Price()


class Ask(Struct, frozen=True, kw_only=True):
    """How one kind of question is put and decided: the prompt, the sampling, and the vote.

    It travels in each sample of its steps, so that a sample is decoded and counted by the rules that launched it, whatever
    was deployed since.
    """

    form: Name
    program: Name = "once"  # conclave.domain.programs: how a path goes on after its first turn
    max_turns: Annotated[int, Meta(ge=1, le=MAX_TURNS)] = 1  # of the model; what tools answer is not counted
    tools: Annotated[tuple[Name, ...], Meta(max_length=16)] = ()  # that a path may call
    temperature: Annotated[float, Meta(ge=0.0, le=5.0)] = 0.8
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] = 1.0
    max_tokens: Annotated[int, Meta(ge=1, le=131_072, description="of one turn")] = 256
    # A path hands on how far it has come after so many tokens of a turn: what a crash costs it at most. 0: not before its end.
    chunk_tokens: Annotated[int, Meta(ge=0, le=131_072)] = 0
    max_samples: SampleCount = 16
    stopping: Name = "adaptive_consistency"
    schedule: Name = "waves"  # conclave.domain.schedules: when samples are launched, never what they come to
    voting: Name = "majority"
    equivalence: Name = "short_answer"
    weighing: Name = "alike"
    confidence: Name = "lead"
    # What a confidence of 0, … 1 turned out to be worth, at even distances; () leaves it as it is.
    calibration: Annotated[tuple[Probability, ...], Meta(max_length=101)] = ()
    # What a vote weighs whose path says 0, … 1 of itself, at even distances; () weighs all alike. Of weighing `learned`.
    vote_weights: Annotated[tuple[Probability, ...], Meta(max_length=101)] = ()
    params: Params = {}  # of its rules: window, lead, stop_confidence, …
    # The JSON Schema that answers have to fit, as accepted at the door; "": they are short answers.
    answer_schema: Annotated[str, Meta(max_length=MAX_SCHEMA_CHARS)] = ""
    allowance: Allowance | None = None  # of each of its steps; a plan's budget may leave less
    # The words of its form, where they are not those that all were in before forms could say theirs.
    wording: Wording | UnsetType = UNSET

    def __post_init__(self) -> None:
        if len(self.calibration) == 1:
            raise ValueError("`calibration` must have no points or at least two - at `$.calibration`")
        if len(self.vote_weights) == 1:
            raise ValueError("`vote_weights` must have no points or at least two - at `$.vote_weights`")

    @property
    def words(self) -> Wording:
        """In what words its form's model answers, and is told things."""
        return _BEFORE if self.wording is UNSET else self.wording


_BEFORE = Wording()


class Budget(Struct, frozen=True, kw_only=True):
    """What a request may cost at most, beyond its deadline."""

    max_steps: Annotated[int, Meta(ge=1, le=MAX_STEPS)] = 16
    max_tokens: Annotated[Count | None, Meta(description="generated, over all paths that were counted")] = None
    max_seconds: Annotated[float, Meta(gt=0.0, le=86_400.0, description="since it was asked")] | None = None
    max_dollars: Annotated[Dollars | None, Meta(description="by the dearest of the policy's prices")] = None


class Effort(Struct, frozen=True, kw_only=True):
    """How much to think, from the question: max(least, round(per_point * complexity)), and `most` at most.

    The figure becomes the value of strategy parameters and the samples of asks.
    """

    estimator: Name = "clauses"  # conclave.domain.complexity
    per_point: Annotated[float, Meta(ge=0.0, le=64.0)] = 1.5
    least: SampleCount = 2
    most: SampleCount = 16
    params: Annotated[tuple[Name, ...], Meta(max_length=8)] = ()  # of the strategy: rounds, …
    samples_of: Annotated[tuple[Name, ...], Meta(max_length=MAX_ASKS)] = ()  # asks

    def __post_init__(self) -> None:
        if self.most < self.least:
            raise ValueError(f"`most` must be at least `least`, got {self.most} and {self.least} - at `$.most`")


class Policy(Struct, frozen=True, kw_only=True):
    """A reasoning policy: a strategy, how it puts each kind of question, and what it may spend.

    It travels whole in the plan. `digest` is of all the rest: an edited policy is another one, whatever its name.
    """

    name: Name
    version: PolicyVersion = 1
    digest: Label = ""
    prompt_set: Name
    strategy: Name = "vote"
    params: Params = {}  # of the strategy: floor, rounds, width, …
    asks: Annotated[dict[Name, Ask], Meta(min_length=1, max_length=MAX_ASKS)]
    budget: Budget = Budget()
    prices: Annotated[dict[Label, Price], Meta(max_length=16)] = {}  # by model
    effort: Effort | None = None


class PolicyFile(Struct, frozen=True, kw_only=True):
    """A policy as a decomposer has read it: `name@version`, the digest of what it says, and its file without the folder."""

    policy: PolicyReference
    digest: Label
    file: Label
    modified_ms: TimestampMs = 0  # when the file was last written; 0: unknown
