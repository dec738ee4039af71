"""Steps, what travels with them, and how their questions are found again."""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.ids import StepId, step_id
from schemas.values.base import MAX_STEPS, Label, Name, Question, StepIndex, TimestampMs, Uuid7
from schemas.values.policies import Ask


class Fingerprint(Struct, frozen=True, kw_only=True):
    """What a question is found again by: digests that cover tenant, policy and limits as well, so none is another tenant's.

    `key` is of the question's normal form, `gist` of what must be equal for two questions to ask the same ("": not looked for).
    """

    key: Label
    gist: Label = ""
    tenant: Label = ""


class Step(Struct, frozen=True, kw_only=True):
    """A question of its own inside a request. It exists once it can be asked, so its fields are filled."""

    index: StepIndex
    ask: Name = "whole"  # the entry of the policy's asks by which it is put
    fields: Annotated[dict[Name, Question], Meta(max_length=16)]  # what the prompt form is filled with: question, …
    mark: Label = ""  # the strategy's own name for it: "#3", "round 2", "1.2.1"
    depends_on: Annotated[tuple[StepIndex, ...], Meta(max_length=MAX_STEPS)] = ()  # whose answers are in the fields
    why: Label = ""  # what made the strategy ask it, for who reads the trace


class StepContext(Struct, frozen=True, kw_only=True):
    """All that decoder and voter need to know of a step: it travels in each of its samples and paths.

    Services hand it on, and an older one drops a field that it does not know. So a new field has a default, and only the
    decomposer, deployed last, brings another value into the pipeline.
    """

    request_id: Uuid7
    step: Step
    ask: Ask
    prompt_set: Name
    policy: Name
    deadline_ms: TimestampMs
    arm: Name = "default"
    priority: Name = "standard"  # conclave.domain.priorities: what share of the engine it is decoded on
    tenant: Label = ""  # whose it is: those of a class share alike
    conversation: Label = ""  # whose other turns a decoder has in its KV cache; "": none, or too many

    @property
    def step_index(self) -> int:
        """The step's place among those of its request."""
        return self.step.index

    @property
    def step_id(self) -> StepId:
        """The id of the step, the Kafka key of its paths."""
        return step_id(self.request_id, self.step.index)
