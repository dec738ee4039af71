"""Routers: rules as data, switches, the classifier of difficulty, and what the decomposer makes of them."""

import json
import os
import random
from pathlib import Path

import hypothesis.strategies as st
import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from msgspec.structs import replace

from conclave import policies, routes
from conclave.cli.router import router as router_command
from conclave.cli.routes import routes_group
from conclave.domain.questions import Kind, tokens
from conclave.domain.routing import Choice, Meter, Pressure, Router, Rule, Streaks, route
from conclave.domain.routing.difficulty import Classifier, difficulty
from conclave.domain.routing.examples import Example, Observation, examples
from conclave.domain.routing.features import INTENTS, Seen, figures
from conclave.domain.routing.learning import MIN_EXAMPLES, TooFew, area_under_curve, learned
from conclave.domain.routing.rules import Limits
from conclave.errors import Misconfigured
from conclave.policies.current import CurrentPolicies
from conclave.routes.current import CurrentRouter
from conclave.runtime.handler import Arrival
from conclave.testing import events as made
from schemas import codec
from schemas.events import PlanMade, ReasoningRequested
from services.decomposer.handler import Decomposer
from services.decomposer.settings import DecomposerSettings

HARD = "Ann has 3 nuts. Ben has twice as many. They share them equally. " * 3 + "How many are left?"
LONG = "Ann has 3 nuts. Ben has 12. " * 5 + "How many have they?"
EASY = "Ann has 3 nuts and gets 4. How many has she?"


def trained(num: int = 200) -> Classifier:
    """A classifier of questions of one to eight sentences: those of more than four are answered wrong."""
    rng = random.Random(7)
    rows = [(rng.randint(1, 8), rng.randint(1, 99)) for _ in range(num)]
    given = [Example(f"Ann has {first} nuts. " * length + "How many?", float(length > 4)) for length, first in rows]
    return learned(given, trained_at="2026-11-26T00:00:00Z")


def routed(
    *rules: Rule,
    question: str = EASY,
    tags: dict[str, str] | None = None,
    tenant: str = "",
    at: str = "",
    classifier: Classifier | None = None,
    pressure: Pressure | None = None,
    streaks: Streaks | None = None,
    scope: str = "",
) -> Choice:
    return route(
        Router(name="mine", rules=rules, scope=scope),
        question,
        tags or {},
        tenant=tenant,
        at=at,
        classifier=classifier,
        pressure=pressure or Pressure(),
        streaks=streaks or Streaks(),
    )


# -- what is seen of a question ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "values"),
    [
        ("thirty-six apples and 1,000 pears", ["36", "1000"]),
        ("two-thirds of 3.50", ["2/3", "7/2"]),
        ("one hundred and five, twenty one, a dozen", ["105", "21", "12"]),
        ("version 1.2.3", ["None"]),
        ("someone at the tenth stand", []),
    ],
)
def test_numbers_are_seen_in_digits_and_in_words(question: str, values: list[str]) -> None:
    assert [str(each.value) for each in tokens(question) if each.kind is Kind.NUMBER] == values


@pytest.mark.parametrize(
    ("question", "intent"),
    [
        ("What is 2+(3*4)?", "calculation"),
        ("12 plus 7 times 3", "calculation"),
        (HARD, "word_problem"),
        ("Which is true? A) 1 B) 2 C) 3", "choice"),
        ("def f(x): return x", "code"),
        ("Why is the sky blue?", "reasoning"),
        ("Is it raining?", "yes_no"),
        ("Who wrote Faust?", "lookup"),
        ("Tell me a story", "other"),
        ("Wie viel ist 3*4", "other"),
    ],
)
def test_a_question_s_intent_is_told_by_its_words_and_signs(question: str, intent: str) -> None:
    assert Seen(question).intent == intent


@given(st.text(max_size=400))
@settings(max_examples=80)
def test_any_text_has_an_intent_and_finite_figures(text: str) -> None:
    seen = Seen(text)
    assert seen.intent in INTENTS
    assert all(0.0 <= value < 30.0 for value in figures(seen))


@pytest.mark.parametrize(
    "hostile", ["(" * 16_384, "9" * 16_384, "one " * 4_096, "a-" * 8_192, "1," * 8_192, "A) x " * 3_000]
)
def test_a_hostile_question_is_seen_without_trouble(hostile: str) -> None:
    assert all(value < 30.0 for value in figures(Seen(hostile)))
    assert Seen(hostile).intent in INTENTS


# -- rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ({}, True),
        ({"at_most": {"sentences": 2.0}}, True),
        ({"at_most": {"numbers": 1.0}}, False),
        ({"at_least": {"numbers": 2.0}, "intents": ("word_problem",)}, True),
        ({"intents": ("code", "choice")}, False),
        ({"any_of": ("apples", "how MANY")}, True),
        ({"any_of": ("nut",)}, False),
        ({"any_of": ("gets 4.",)}, True),
        ({"none_of": ("nuts",)}, False),
        ({"none_of": ("apples",)}, True),
        ({"tags": {"kind": "exam"}}, True),
        ({"tags": {"kind": "*"}}, True),
        ({"tags": {"kind": "homework"}}, False),
        ({"tags": {"other": "*"}}, False),
        ({"tenants": ("acme",)}, True),
        ({"tenants": ("other",)}, False),
        ({"max_difficulty": 1.0}, False),  # nobody knows how hard it is
    ],
)
def test_a_rule_holds_where_all_of_its_conditions_do(rule: dict[str, object], holds: bool) -> None:
    of = Rule(name="r", policy="direct", **rule)  # type: ignore[arg-type]
    choice = routed(of, tags={"kind": "exam"}, tenant="acme")
    assert (choice.policy, choice.rule) == (("direct", "r") if holds else (None, None))
    assert choice.reasons["rule"] == ("r" if holds else "none")


def test_the_first_rule_that_holds_decides_and_says_what_spoke_for_it() -> None:
    choice = routed(
        Rule(name="long", policy="default", at_least={"sentences": 9.0}),
        Rule(name="short", policy="direct", at_most={"words": 20.0}, any_of=("nuts",)),
        Rule(name="all", policy="single"),
    )
    assert (choice.policy, choice.reasons["because"]) == ("direct", "words 9 ≤ 20; says nuts")


def test_reasons_always_fit_into_an_event() -> None:
    rules = [
        Rule(name=f"rule{index}", policy="direct", in_a_row=2, any_of=("x " * 100 + str(index),)) for index in range(40)
    ]
    streaks = Streaks()
    *_, choice = (
        routed(*rules, question=("x " * 100 + "39 ") * 3, at=str(at), streaks=streaks, scope="s" * 256)
        for at in range(4)
    )
    assert choice.rule == "rule39"
    assert len(choice.reasons) <= 10
    assert all(len(text) <= 256 for text in choice.reasons.values())


# -- switches ---------------------------------------------------------------------------------------------------------

SWITCH = Rule(name="busy", policy="direct", any_of=("nuts",), in_a_row=3)
OTHER = "What is it?"


def positions(questions: str, streaks: Streaks | None = None, **told: str) -> str:
    """Where the switch stands after each question: N mentions nuts."""
    streaks = streaks or Streaks()
    return "".join(
        "+" if routed(SWITCH, question=EASY if each == "N" else OTHER, at=f"{told}{place}", streaks=streaks, **told).policy  # type: ignore[arg-type]
        else "-"
        for place, each in enumerate(questions)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("questions", "expected"),
    [("NN.NNN", "-----+"), ("NNN..N..", "--++" + "++++"), ("NNN...N", "--+++--"), ("N.N.N.", "------")],
)
def test_a_switch_flips_only_after_so_many_in_a_row(questions: str, expected: str) -> None:
    assert positions(questions) == expected


def test_a_scope_is_never_counted_with_another_s() -> None:
    streaks = Streaks()
    assert positions("NNN", streaks, tenant="a") == "--+"
    assert positions("NN", streaks, tenant="b") == "--"


def test_a_question_read_again_is_not_counted_again() -> None:
    streaks = Streaks()
    for _ in range(5):
        assert routed(SWITCH, at="requests/0/1", streaks=streaks).policy is None


def test_the_scope_used_least_lately_is_forgotten() -> None:
    streaks = Streaks(max_scopes=2)
    assert positions("NNN", streaks, tenant="a") == "--+"
    for tenant in ("b", "c"):
        positions("N", streaks, tenant=tenant)
    assert routed(SWITCH, tenant="a", at="later", streaks=streaks).policy is None


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 5))
@settings(max_examples=60)
def test_a_switch_stands_where_the_last_run_long_enough_put_it(matches: list[bool], needed: int) -> None:
    streaks, expected = Streaks(), False
    for place, is_match in enumerate(matches):
        switch = streaks.count(("", ""), {"r": is_match}, {"r": needed}, str(place))["r"]
        run = matches[max(0, place + 1 - needed) : place + 1]
        if len(run) == needed and len(set(run)) == 1:
            expected = is_match
        assert switch.is_on is expected


# -- difficulty -------------------------------------------------------------------------------------------------------


def test_a_classifier_learns_what_makes_questions_hard_and_says_how_well() -> None:
    classifier = trained()
    assert classifier.figures.auc > 0.95
    assert classifier.figures.log_loss < classifier.figures.log_loss_of_share
    assert difficulty(classifier, Seen("Ann has 3 nuts. " * 8 + "How many?")) > 0.9
    assert difficulty(classifier, Seen("Ann has 3 nuts. How many?")) < 0.1
    assert msgspec.json.decode(msgspec.json.encode(classifier), type=Classifier) == classifier


def test_what_has_nothing_to_do_with_difficulty_teaches_nothing() -> None:
    rng = random.Random(3)
    coins = [Example(f"Ann has {rng.randint(1, 99)} nuts. " * rng.randint(1, 8), rng.randint(0, 1)) for _ in range(400)]
    assert 0.4 < learned(coins, trained_at="now").figures.auc < 0.6


@pytest.mark.parametrize(
    "given", [[], [Example("q?", 1.0)] * (MIN_EXAMPLES - 1), [Example(f"{n}?", 0.0) for n in range(MIN_EXAMPLES)]]
)
def test_too_little_is_no_ground_for_a_classifier(given: list[Example]) -> None:
    with pytest.raises(TooFew):
        learned(given, trained_at="now")


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=30))
@settings(max_examples=60)
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order(pairs: list[tuple[int, bool]]) -> None:
    import numpy as np

    high, low = [score for score, is_wrong in pairs if is_wrong], [score for score, is_wrong in pairs if not is_wrong]
    wins = [1.0 if one > other else 0.5 if one == other else 0.0 for one in high for other in low]
    found = area_under_curve(np.array([float(s) for s, _ in pairs]), np.array([w for _, w in pairs], dtype=bool))
    assert found == pytest.approx(sum(wins) / len(wins) if wins else 0.5)


def test_a_threshold_follows_load_and_budget() -> None:
    rule = Rule(name="easy", policy="direct", max_difficulty=0.0, max_difficulty_at_limit=1.0)
    classifier = trained()
    hard = "Ann has 3 nuts. " * 6 + "How many?"
    assert routed(rule, question=hard, classifier=classifier).policy is None
    pressed = routed(rule, question=hard, classifier=classifier, pressure=Pressure(load=0.2, budget=2.0))
    assert pressed.policy == "direct"
    assert pressed.reasons["pressure"] == "1.000 (load 0.200, budget 2.000)"
    assert float(pressed.reasons["difficulty"]) == pytest.approx(difficulty(classifier, Seen(hard)), abs=1e-4)


def test_a_meter_knows_the_last_minute_only() -> None:
    meter, limits = Meter(), Limits(thoughts_per_minute=4.0, tokens_per_hour=1000.0)
    for second in range(4):
        meter.note(made.NOW_MS + 1000 * second)
    assert meter.pressure(limits, made.NOW_MS + 3000, None) == Pressure(load=1.0, budget=0.0)
    assert meter.pressure(limits, made.NOW_MS + 61_500, 500.0) == Pressure(load=0.5, budget=0.5)
    assert meter.pressure(Limits(), made.NOW_MS + 61_500, 500.0) == Pressure()


OBSERVED = Observation("q?", True, "4", 0.9, 1.0, is_final=True)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"right_answer": "4.0"}, (0.0, 1.0, "right answer")),
        ({"right_answer": "5", "reward": 1.0}, (1.0, 1.0, "right answer")),
        ({"reward": 0.25}, (0.75, 1.0, "reward")),
        ({"is_final": False, "final_answer": "5", "reward": 0.0}, (1.0, 0.5, "thought over")),
        ({"is_final": False, "final_answer": "4"}, (0.0, 0.5, "thought over")),
        ({"answer": None, "is_final": False, "final_answer": "4"}, (1.0, 0.5, "thought over")),
        ({}, (pytest.approx(0.1), 0.25, "confidence")),
        ({"is_direct": False, "agreement": 0.75}, (0.25, 0.25, "vote")),
        ({"is_direct": False, "answer": None}, None),
        ({"answer": None}, None),
    ],
)
def test_an_observation_teaches_by_its_strongest_evidence(changes: dict[str, object], expected: object) -> None:
    import dataclasses

    found = list(examples([dataclasses.replace(OBSERVED, **changes)]))  # type: ignore[arg-type]
    assert [(each.wrong, each.weight, each.source) for each in found] == ([expected] if expected else [])


# -- files ------------------------------------------------------------------------------------------------------------

GOOD = """
about = "mine"
classifier = "hard.json"
[limits]
thoughts_per_minute = 10
[[rules]]
name = "easy"
policy = "direct"
max_difficulty = 0.5
max_difficulty_at_limit = 0.9
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.toml").write_text(GOOD)
    (tmp_path / "hard.json").write_bytes(msgspec.json.encode(trained(60)))
    return tmp_path


def test_the_routers_that_ship_are_sound_and_say_what_they_are_for() -> None:
    found, problems = routes.load(policies=policies.shipped())
    assert problems == []
    assert "effort" in found.names
    assert all(read.about for read in found)


def test_a_folder_adds_routers_and_a_new_classifier_is_another_router(folder: Path) -> None:
    before, problems = routes.load(folder, policies=policies.shipped())
    assert problems == []
    (folder / "hard.json").write_bytes(msgspec.json.encode(trained(80)))
    after, _ = routes.load(folder, policies=policies.shipped())
    assert before.rows["mine"].router.digest != after.rows["mine"].router.digest


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"direct"', '"clever"', "rules[0].policy: expected one of "),
        ("max_difficulty = 0.5", "max_difficulty = 5", "rules[0].max_difficulty: expected `float` <= 1.0"),
        ("max_difficulty = 0.5", "at_most = { wrods = 2 }", "rules[0].at_most: expected one of chars, words"),
        ("max_difficulty = 0.5", "at_least = { words = nan }", "rules[0].at_least.words: expected a finite number"),
        ("max_difficulty = 0.5", 'intents = ["love"]', "rules[0].intents: expected one of code"),
        ("max_difficulty = 0.5", "mood = 1", "rules[0].mood: expected no such field"),
        ('name = "easy"\n', "", "rules[0].name: expected a value"),
        ("thoughts_per_minute = 10", "thoughts_per_minute = 0", "limits.thoughts_per_minute: expected `float` > 0.0"),
        ("thoughts_per_minute = 10", 'cheap = ["free"]', "limits.cheap: expected policies: "),
        ('classifier = "hard.json"\n', "", "classifier: expected the file of the classifier that rule easy goes by"),
        ("hard.json", "../hard.json", "classifier: expected a file beside the router's"),
        ("hard.json", "none.json", "classifier: expected a file that `conclave router train` has written"),
        ("hard.json", "mine.toml", "classifier: expected a file that `conclave router train` has written"),
        ('about = "mine"', 'name = "other"', "name: expected no such field"),
        ('about = "mine"', "about = [", "expected a router in TOML"),
        (GOOD[GOOD.index("[[") :], "", "rules: expected a value"),
        (GOOD[GOOD.index("[[") :], "rules = []", "limits.rules: expected no such field"),
    ],
)
def test_what_is_wrong_with_a_router_is_named(folder: Path, old: str, new: str, expected: str) -> None:
    (folder / "mine.toml").write_text(GOOD.replace(old, new))
    _, problems = routes.load(folder, policies=policies.shipped())
    told = [str(each).partition("mine.toml: ")[2] for each in problems]
    assert any(each.startswith(expected) for each in told), told


def test_two_rules_of_one_name_and_two_routers_of_one_name_are_refused(folder: Path) -> None:
    (folder / "effort.toml").write_text(GOOD + GOOD[GOOD.index("[[") :])
    (folder / "mine.toml").write_text(GOOD)
    _, problems = routes.load(folder, policies=policies.shipped())
    assert [each.field for each in problems] == ["rules[1].name"]
    (folder / "effort.toml").write_text(GOOD)
    _, problems = routes.load(folder, policies=policies.shipped())
    assert [each.expected.partition(":")[0] for each in problems] == ["a name that no other router has"]


def test_a_running_router_follows_its_files_and_keeps_the_last_good_one(folder: Path) -> None:
    current = CurrentRouter("mine", folder, policies=policies.shipped)
    before = current.status()
    (folder / "mine.toml").write_text(GOOD.replace('"direct"', '"clever"'))
    current.refresh()
    assert current.status()["router"] == before["router"]
    assert "routes_refused" in current.status()
    (folder / "mine.toml").write_text(GOOD.replace("0.5", "0.25"))
    os.utime(folder / "mine.toml", ns=(1, 1))
    current.refresh()
    assert "routes_refused" not in current.status()
    assert current.status()["router"] != before["router"]


@pytest.mark.parametrize("name", ["none", "mine"])
def test_a_router_that_is_not_there_or_wrong_is_a_wrong_setting(folder: Path, name: str) -> None:
    if name == "mine":
        (folder / "hard.json").write_text("{}")
    with pytest.raises(Misconfigured):
        CurrentRouter(name, folder, policies=policies.shipped)


# -- the decomposer ---------------------------------------------------------------------------------------------------


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
        GOOD.replace("max_difficulty = 0.5", "max_difficulty = 0.0").replace("0.9", "1.0")
    )
    decomposer = decomposer_with(tmp_path, name="mine")
    for offset in range(9):
        assert (await planned(decomposer, offset=offset, policy="direct")).reasons == {}
    assert "pressure" not in (await planned(decomposer, HARD)).reasons
    for offset in range(9):
        await planned(decomposer, offset=offset, policy="single")
    pressed = await planned(decomposer, HARD)
    assert (pressed.policy.name, pressed.reasons["pressure"]) == ("direct", "1.000 (load 1.000, budget 0.000)")


# -- the commands -----------------------------------------------------------------------------------------------------


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    done = CliRunner().invoke(routes_group, arguments, standalone_mode=False, env=environment)
    return (1 if done.exception else int(done.return_value or 0)), done.output


def test_routers_are_listed_checked_and_explained(folder: Path) -> None:
    status, said = run("list", "--json", CONCLAVE_ROUTES_DIR=str(folder))
    assert (status, [row["name"] for row in json.loads(said)]) == (0, ["effort", "mine"])
    assert run("check", str(folder)) == (0, "2 routers, all sound\n")
    status, said = run("explain", EASY, "--router", "mine", "--json", CONCLAVE_ROUTES_DIR=str(folder))
    told = json.loads(said)
    assert (status, told["rule"], told["intent"]) == (0, "easy", "word_problem")
    assert told["figures"]["numbers"] == 2
    (folder / "mine.toml").write_text(GOOD.replace('"direct"', '"clever"'))
    status, said = run("check", str(folder))
    assert status == 1
    assert "rules[0].policy: expected one of " in said
    assert run("explain", EASY, "--router", "none")[0] == 1


def test_tags_and_pressure_can_be_supposed(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[[rules]]\nname = "vip"\npolicy = "fixed-16"\ntags = { plan = "gold" }\n')
    status, said = run("explain", EASY, "--router", "mine", "--tag", "plan=gold", CONCLAVE_ROUTES_DIR=str(tmp_path))
    assert status == 0
    assert "tag plan is gold" in said
    assert run("explain", EASY, "--tag", "gold")[0] == 1


def test_a_classifier_is_trained_from_a_file_of_examples_and_written_whole(tmp_path: Path) -> None:
    lines = [
        json.dumps({"question": f"Ann has {n} nuts. " * (1 + n % 8) + "How many?", "wrong": float(n % 8 > 3)})
        for n in range(120)
    ]
    given, into = tmp_path / "given.jsonl", tmp_path / "hard.json"
    given.write_text("\n".join(lines))
    done = CliRunner().invoke(router_command, ["train", str(into), "--examples", str(given)])
    assert done.exit_code == 0, done.output
    assert "120 examples (120 given), 50.0% wrong" in done.output
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".partial"] == []
    assert msgspec.json.decode(into.read_bytes(), type=Classifier).figures.num_examples == 120
    given.write_text(lines[0] + '\n{"question": "q", "wrong": 2}')
    done = CliRunner().invoke(router_command, ["train", str(into), "--examples", str(given)])
    assert done.exit_code == 1
    assert "given.jsonl:2: " in done.output
    given.write_text(lines[0])
    done = CliRunner().invoke(router_command, ["train", str(tmp_path / "other.json"), "--examples", str(given)])
    assert done.exit_code == 1
    assert not (tmp_path / "other.json").exists()
