"""A policy against everything that it names: strategies, rules, programs, tools, prompt forms, fields and parameters."""

from collections.abc import Collection, Iterator, Mapping

from conclave.domain import counting, external, thinking
from conclave.domain.complexity import ESTIMATORS
from conclave.domain.confidence import CONFIDENCES
from conclave.domain.equivalence import EQUIVALENCES
from conclave.domain.params import Params
from conclave.domain.programs import PROGRAMS
from conclave.domain.schedules import SCHEDULES
from conclave.domain.stopping import STOPPING_RULES
from conclave.domain.strategies import STRATEGIES
from conclave.domain.thought import Strategy
from conclave.domain.voting import VOTING_RULES
from conclave.domain.weighing import WEIGHINGS
from conclave.errors import Rejected
from conclave.policies.reading import Read
from conclave.policies.tables import Problem
from conclave.prompts import PromptSet
from conclave.tools import TOOLS, WITH_EFFECTS
from schemas.values import Ask, Policy

_Found = tuple[str, str, str]  # field, expected, got

_LEAST_CHUNK = 16  # each chunk's event holds all before it: shorter ones cost more than they save


def problems_of(read: Read, prompt_sets: Mapping[str, PromptSet]) -> list[Problem]:
    """Everything that a policy names and that is not there, or does not fit."""
    return [Problem(str(read.path), *found) for found in _policy(read.policy, prompt_sets)]


def _policy(policy: Policy, prompt_sets: Mapping[str, PromptSet]) -> Iterator[_Found]:
    strategy, prompt_set = STRATEGIES.get(policy.strategy), prompt_sets.get(policy.prompt_set)
    yield from _named(policy.strategy, STRATEGIES, "strategy")
    yield from _named(policy.prompt_set, prompt_sets, "prompt_set")
    for name, ask in policy.asks.items():
        yield from _ask(ask, f"asks.{name}", prompt_set)
    if policy.budget.max_dollars is not None and not policy.prices:
        yield "prices", "the price of at least one model, as the budget is in dollars", "nothing"
    yield from _effort(policy, strategy)
    if strategy is not None:
        yield from _params(policy.params, strategy.params, "params")
        yield from _fit(policy, strategy, prompt_set)


def _effort(policy: Policy, strategy: Strategy | None) -> Iterator[_Found]:
    """Whether an estimate of a question's complexity can become what it is meant to."""
    effort = policy.effort
    if effort is None:
        return
    yield from _named(effort.estimator, ESTIMATORS, "effort.estimator")
    for name in effort.params if strategy is not None else ():
        declared = strategy.params if strategy is not None else {}
        yield from _named(name, declared, "effort.params")
        if name in declared and not (declared[name].takes(effort.least) and declared[name].takes(effort.most)):
            yield "effort", f"figures that {name} takes: {declared[name].expected}", f"{effort.least} to {effort.most}"
    for name in effort.samples_of:
        yield from _named(name, policy.asks, "effort.samples_of")


def _ask(ask: Ask, at: str, prompt_set: PromptSet | None) -> Iterator[_Found]:
    if external.is_external(ask):
        yield from _call(ask, at)
        return
    yield from _named(ask.program, PROGRAMS, f"{at}.program")
    yield from _named(ask.stopping, STOPPING_RULES, f"{at}.stopping")
    yield from _named(ask.schedule, SCHEDULES, f"{at}.schedule")
    yield from _named(ask.voting, VOTING_RULES, f"{at}.voting")
    yield from _named(ask.equivalence, EQUIVALENCES, f"{at}.equivalence")
    yield from _named(ask.weighing, WEIGHINGS, f"{at}.weighing")
    yield from _named(ask.confidence, CONFIDENCES, f"{at}.confidence")
    for tool in ask.tools:
        yield from _named(tool, TOOLS, f"{at}.tools")
        if tool in WITH_EFFECTS:
            yield (
                f"{at}.tools",
                f"tools without an effect, or program {external.PROGRAM} for a step that calls one",
                tool,
            )
    if prompt_set is not None:
        yield from _named(ask.form, prompt_set.forms, f"{at}.form")
        for form in PROGRAMS[ask.program].forms if ask.program in PROGRAMS else ():
            if form not in prompt_set.forms:
                yield (
                    f"{at}.program",
                    f"one whose forms prompt set {prompt_set.name} has: there is no {form}",
                    ask.program,
                )
        yield from _turns(ask, at, prompt_set)
    if ask.stopping in STOPPING_RULES:
        yield from _params(ask.params, counting.params_of(ask), f"{at}.params")


def _call(ask: Ask, at: str) -> Iterator[_Found]:
    """Whether a step may call the tool that it calls instead of sampling paths."""
    if len(ask.tools) != 1:
        yield (
            f"{at}.tools",
            f"one tool with an effect: {', '.join(WITH_EFFECTS) or 'there is none'}",
            ", ".join(ask.tools),
        )
    for tool in ask.tools:
        yield from _named(tool, WITH_EFFECTS, f"{at}.tools")
        if WITH_EFFECTS.get(tool) and not external.needs_approval(ask):
            yield (
                f"{at}.params.approval_s",
                f"how many seconds somebody's yes is waited for: {tool} needs one",
                "nothing",
            )
    yield from _params(ask.params, external.PARAMS, f"{at}.params")


def _turns(ask: Ask, at: str, prompt_set: PromptSet) -> Iterator[_Found]:
    """Whether the program has the turns that it needs, and its form the tool."""
    program, form = PROGRAMS.get(ask.program), prompt_set.forms.get(ask.form)
    if program is not None and ask.max_turns < program.min_turns:
        yield f"{at}.max_turns", f"at least {program.min_turns} for program {ask.program}", str(ask.max_turns)
    if 0 < ask.chunk_tokens < _LEAST_CHUNK:
        yield f"{at}.chunk_tokens", f"at least {_LEAST_CHUNK}, or 0: the path is not handed on", str(ask.chunk_tokens)
    use = form.tool_use if form is not None else None
    if form is not None and use is None and ask.program == "tools":
        yield f"{at}.form", "a form that says how its tool is called, for program tools", ask.form
    for tool in use.tools if use is not None else ():
        if tool not in ask.tools:
            yield f"{at}.tools", f"{tool} among them, which form {ask.form} calls", ", ".join(ask.tools) or "none"


def _fit(policy: Policy, strategy: Strategy, prompt_set: PromptSet | None) -> Iterator[_Found]:
    """Whether the asks are those that the strategy puts, and their forms want nothing but what it fills in."""
    for name in strategy.asks.keys() - policy.asks.keys():
        yield f"asks.{name}", f"the ask that strategy {policy.strategy} puts", "nothing"
    for name in policy.asks.keys() - strategy.asks.keys():
        yield f"asks.{name}", f"an ask that strategy {policy.strategy} puts: {', '.join(strategy.asks)}", name
    for name, filled in strategy.asks.items():
        is_asked = prompt_set is not None and name in policy.asks and not external.is_external(policy.asks[name])
        form = prompt_set.forms.get(policy.asks[name].form) if prompt_set and is_asked else None
        for field in form.fields if form else ():
            if form and field not in filled and field not in form.otherwise:
                expected = f"a form that is filled with {', '.join(filled)}; {policy.asks[name].form} wants {field}"
                yield f"asks.{name}.form", expected, policy.asks[name].form
    if strategy.asks.keys() <= policy.asks.keys():
        try:
            thinking.opening("How much is 2 + 2?", policy)
        except Rejected:
            yield (
                "budget.max_steps",
                f"enough for what strategy {policy.strategy} asks first",
                str(policy.budget.max_steps),
            )


def _named(name: str, table: Collection[str], at: str) -> Iterator[_Found]:
    if name not in table:
        yield at, f"one of {', '.join(table)}", name


def _params(given: Mapping[str, float], declared: Params, at: str) -> Iterator[_Found]:
    for name, value in given.items():
        if name not in declared:
            yield f"{at}.{name}", f"one of {', '.join(declared)}" if declared else "no parameter", f"{value:g}"
        elif not declared[name].takes(value):
            yield f"{at}.{name}", declared[name].expected, f"{value:g}"
