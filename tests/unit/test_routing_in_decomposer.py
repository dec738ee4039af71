"""What a decomposer makes of a router's word, and what presses on its threshold."""

from pathlib import Path

import msgspec
from msgspec.structs import replace

from conclave.policies.current import CurrentPolicies
from conclave.routes.current import CurrentRouter
from conclave.runtime.handler import Arrival
from conclave.testing import events as made
from schemas import codec
from schemas.events import PlanMade, ReasoningRequested
from services.decomposer.handler import Decomposer
from services.decomposer.settings import DecomposerSettings
from tests.routed_questions import EASY, HARD, ROUTER_FILE, trained

LONG = "Ann has 3 nuts. Ben has 12. " * 5 + "How many have they?"


def arrival(offset: int = 42) -> Arrival:
    return Arrival("event", made.REQUEST_ID, made.NOW_MS, made.NOW_MS + 7, f"reasoning.requests/0/{offset}")


async def planned(decomposer: Decomposer, question: str = EASY, offset: int = 42, **changes: object) -> PlanMade:
    request = replace(ReasoningRequested(question=question, request_id=made.REQUEST_ID), **changes)
    plan = (await decomposer.handle(request, arrival(offset)))[0]
    assert isinstance(plan, PlanMade)
    assert codec.decode("reasoning.steps", codec.versioned_type(PlanMade), codec.encode(plan)) == plan
    return plan


def decomposer_with(*folders: Path, name: str = "effort", current: CurrentPolicies | None = None) -> Decomposer:
    known = current or CurrentPolicies("default")
    return Decomposer(DecomposerSettings(), known, CurrentRouter(name, *folders, policies=lambda: known.policies))


async def test_a_request_gets_what_it_names_then_what_a_rule_gives_it_then_the_default() -> None:
    decomposer = decomposer_with()
    assert (await planned(decomposer)).policy.name == "least-to-most"
    assert (await planned(decomposer, LONG)).policy.name == "criticised"
    assert (await planned(decomposer, "Who wrote Faust?")).policy.name == "default"
    named = await planned(decomposer, policy="single")
    assert (named.policy.name, named.reasons) == ("single", {})
    without = Decomposer(DecomposerSettings(), CurrentPolicies("default"))
    assert ((await planned(without)).policy.name, (await planned(without)).reasons) == ("default", {})


async def test_each_decision_of_a_router_is_stored_with_its_reasons() -> None:
    decomposer = decomposer_with()
    other, long = await planned(decomposer, "Who wrote Faust?"), await planned(decomposer, LONG)
    assert long.reasons["rule"] == "long"
    assert long.reasons["because"] == "sentences 11 ≥ 10; numbers 10 ≥ 10"
    assert other.reasons["rule"] == "none"
    assert other.reasons["router"] == long.reasons["router"]


async def test_a_policy_that_has_gone_leaves_the_default_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "brief.toml").write_text('prompt_set = "reasoner-v3"\n[asks.whole]\nform = "direct"\n')
    routers = tmp_path / "routers"
    routers.mkdir()
    (routers / "mine.toml").write_text('[[rules]]\nname = "all"\npolicy = "brief"\n')
    current = CurrentPolicies("default", tmp_path)
    decomposer = decomposer_with(routers, name="mine", current=current)
    assert (await planned(decomposer)).policy.name == "brief"
    (tmp_path / "brief.toml").unlink()
    current.refresh()
    plan = await planned(decomposer)
    assert (plan.policy.name, plan.reasons["missing"]) == ("default", "policy brief")


async def test_thoughts_given_out_press_on_the_threshold_and_cheap_ones_do_not(tmp_path: Path) -> None:
    (tmp_path / "hard.json").write_bytes(msgspec.json.encode(trained()))
    (tmp_path / "mine.toml").write_text(
        ROUTER_FILE.replace("max_difficulty = 0.5", "max_difficulty = 0.0").replace("0.9", "1.0")
    )
    decomposer = decomposer_with(tmp_path, name="mine")
    for offset in range(9):
        assert (await planned(decomposer, offset=offset, policy="direct")).reasons == {}
    assert "pressure" not in (await planned(decomposer, HARD)).reasons
    for offset in range(9):
        await planned(decomposer, offset=offset, policy="single")
    pressed = await planned(decomposer, HARD)
    assert (pressed.policy.name, pressed.reasons["pressure"]) == ("direct", "1.000 (load 1.000, budget 0.000)")
