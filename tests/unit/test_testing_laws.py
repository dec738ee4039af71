"""The laws that ship for whoever adds something find what breaks them."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence

import pytest

from conclave import prompts
from conclave.domain.programs import End, Program, Speak
from conclave.domain.programs.moves import Asked
from conclave.domain.stopping import STOPPING_RULES, Labels, StoppingRule
from conclave.domain.thought import Conclude, Grow, Strategy, Think, Thought, surest
from conclave.errors import Rejected
from conclave.runtime.dead_letters import Cause
from conclave.runtime.handler import Arrival
from conclave.runtime.work import Handles
from conclave.testing import events as made
from conclave.testing import programs, rules, strategies
from conclave.testing.services import outputs_of
from conclave.testing.simulation import quiet
from schemas.events import Event, ReasoningRequested
from schemas.values import Ask, Call, Step, Turn


def check_all(check: Callable[[random.Random], None]) -> None:
    for seed in range(60):
        check(random.Random(seed))


def grown(thought: Thought, ask: str = "whole", index: int | None = None, depends_on: tuple[int, ...] = ()) -> Grow:
    index = len(thought.steps) if index is None else index
    return Grow((Step(index=index, ask=ask, fields={"question": thought.question}, depends_on=depends_on),))


def told_everything(thought: Thought) -> Grow:
    fields = {"question": (thought.answer(0) or "q") * 5_000}
    return Grow((Step(index=len(thought.steps), fields=fields),))


STRATEGIES: dict[str, Think] = {
    "it must end": grown,
    "numbered on": lambda thought: surest(thought) if thought.must_end else grown(thought, index=0),
    "no ask other": lambda thought: surest(thought) if thought.must_end else grown(thought, ask="other"),
    "no answer": lambda thought: Conclude(0) if thought.steps or thought.must_end else grown(thought),
    "leans on an open one": lambda thought: surest(thought) if thought.must_end else grown(thought, depends_on=(9,)),
    "two things": lambda thought: surest(thought) if thought.must_end or random.random() < 0.5 else grown(thought),
    "length <= ": lambda thought: surest(thought) if thought.must_end else told_everything(thought),
}


@pytest.mark.parametrize("said", STRATEGIES)
def test_a_strategy_that_breaks_its_law_is_found(said: str) -> None:
    strategy = Strategy(STRATEGIES[said], asks={"whole": ("question",)})
    with pytest.raises(Exception, match=said):
        check_all(lambda rng: strategies.check(strategy, rng))


def goes_on(fields: Mapping[str, str], turns: Sequence[Turn], ask: Asked) -> Speak | Call | End:
    return Speak(ask.form, fields)


def asks_another(fields: Mapping[str, str], turns: Sequence[Turn], ask: Asked) -> Speak | Call | End:
    return End(turns[0].answer, turn=0) if turns else Speak("criticise", {**fields, "path": "p"})


def invents(fields: Mapping[str, str], turns: Sequence[Turn], ask: Asked) -> Speak | Call | End:
    return End("42", turn=0) if turns else Speak(ask.form, fields)


@pytest.mark.parametrize(
    ("next_turn", "said"), [(goes_on, "does not end"), (asks_another, "criticise"), (invents, "42")]
)
def test_a_program_that_breaks_its_law_is_found(next_turn, said: str) -> None:  # type: ignore[no-untyped-def]
    ask = Ask(form="chain_of_thought", max_turns=3)
    with pytest.raises(AssertionError, match=said):
        check_all(lambda rng: programs.check(Program(next_turn), ask, prompts.load("reasoner-v3"), rng))


def asks_for_one_too_many(labels: Labels, ask: Ask) -> int:
    needed = STOPPING_RULES["ahead_by_k"].num_needed(labels, ask)
    return needed + (needed > 0)


@pytest.mark.parametrize("name", sorted(set(STOPPING_RULES) - {"fixed"}))
def test_every_stopping_rule_that_ships_keeps_the_law(name: str) -> None:
    check_all(lambda rng: rules.check_stopping(STOPPING_RULES[name], {}, rng))


@pytest.mark.parametrize(
    ("rule", "said"), [(asks_for_one_too_many, "satisfy it"), (lambda labels, ask: 3 - len(labels), "it needs -")]
)
def test_a_stopping_rule_that_breaks_the_law_is_found(rule, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(AssertionError, match=said):
        check_all(lambda rng: rules.check_stopping(StoppingRule(rule), {}, rng))


class Refuses:
    """A handler that takes nothing."""

    async def handle(self, event: Event, arrival: Arrival) -> Sequence[Event]:
        raise Rejected("$.question", "another one", "this one")

    def give_up(self, event: Event, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        return ()

    def unreadable(self, value: bytes | None, arrival: Arrival, cause: Cause) -> Sequence[Event]:
        return ()


class Dawdles(Refuses):
    """One that never gets done."""

    async def handle(self, event: Event, arrival: Arrival) -> Sequence[Event]:
        await asyncio.sleep(3600)
        return ()


@pytest.mark.parametrize(("handler", "said"), [(Refuses(), "expected another one"), (Dawdles(), "did not finish")])
def test_a_service_that_does_not_handle_its_events_is_found(handler: Refuses, said: str) -> None:
    asked = ReasoningRequested(question="How many?", request_id=made.REQUEST_ID)
    with quiet(), pytest.raises(AssertionError, match=said):
        outputs_of("decomposer", Handles(handler), [asked])
