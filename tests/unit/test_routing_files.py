"""Routers in files and on the command line: what ships, what a folder adds, and what is wrong with one."""

import json
import os
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from conclave import policies, routes
from conclave.cli.router import router as router_command
from conclave.cli.routes import routes_group
from conclave.domain.routing.difficulty import Classifier
from conclave.errors import Misconfigured
from conclave.routes.current import CurrentRouter
from tests.routed_questions import EASY, ROUTER_FILE, trained


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.toml").write_text(ROUTER_FILE)
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
        (ROUTER_FILE[ROUTER_FILE.index("[[") :], "", "rules: expected a value"),
        (ROUTER_FILE[ROUTER_FILE.index("[[") :], "rules = []", "limits.rules: expected no such field"),
    ],
)
def test_what_is_wrong_with_a_router_is_named(folder: Path, old: str, new: str, expected: str) -> None:
    (folder / "mine.toml").write_text(ROUTER_FILE.replace(old, new))
    _, problems = routes.load(folder, policies=policies.shipped())
    told = [str(each).partition("mine.toml: ")[2] for each in problems]
    assert any(each.startswith(expected) for each in told), told


def test_two_rules_of_one_name_and_two_routers_of_one_name_are_refused(folder: Path) -> None:
    (folder / "effort.toml").write_text(ROUTER_FILE + ROUTER_FILE[ROUTER_FILE.index("[[") :])
    (folder / "mine.toml").write_text(ROUTER_FILE)
    _, problems = routes.load(folder, policies=policies.shipped())
    assert [each.field for each in problems] == ["rules[1].name"]
    (folder / "effort.toml").write_text(ROUTER_FILE)
    _, problems = routes.load(folder, policies=policies.shipped())
    assert [each.expected.partition(":")[0] for each in problems] == ["a name that no other router has"]


def test_a_running_router_follows_its_files_and_keeps_the_last_good_one(folder: Path) -> None:
    current = CurrentRouter("mine", folder, policies=policies.shipped)
    before = current.status()
    (folder / "mine.toml").write_text(ROUTER_FILE.replace('"direct"', '"clever"'))
    current.refresh()
    assert current.status()["router"] == before["router"]
    assert "routes_refused" in current.status()
    (folder / "mine.toml").write_text(ROUTER_FILE.replace("0.5", "0.25"))
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
    (folder / "mine.toml").write_text(ROUTER_FILE.replace('"direct"', '"clever"'))
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
