"""The measures, on models whose worth is known."""

import math
import random
import re
from collections.abc import Iterator, Sequence

from training.criticism import RIGHT, criticism
from training.evaluation import NUM_VOTES, auroc_within, evaluate, majority
from training.generator import held_out
from training.parts import answers_of, needed_answers, plan_text, split
from training.paths import Line, Style, gold_lines, path_text
from training.problems import Calculation, Problem
from training.sampling import Fields, Sample
from training.slips import corrupt

PROBLEMS = held_out(60)


def sample(text: str, answer: object = None, logprob: float = -0.1) -> Sample:
    return Sample(text, None if answer is None else str(answer), len(text.split()), logprob)


def parts_with_answers(problem: Problem) -> Iterator[tuple[tuple[str, str], int]]:
    """For each part of a problem its text and what came earlier, and the answer."""
    parts = split(problem)
    for part in parts:
        yield (part.text, needed_answers(part.needs, answers_of(parts))), part.steps[-1].result


class KnowsAll:
    """Answers every form as it was taught; asked to think, it slips on every other path."""

    def __init__(self) -> None:
        self._rng = random.Random(1)
        self._problems = {problem.question: problem for problem in PROBLEMS}
        self._parts = {key: answer for problem in PROBLEMS for key, answer in parts_with_answers(problem)}

    def ask(
        self, form: str, fields: Sequence[Fields], *, n: int = 1, temperature: float = 0.8, said: Sequence[str] = ()
    ) -> list[list[Sample]]:
        return [
            [self._say(form, each, said[i] if said else "", number) for number in range(n)]
            for i, each in enumerate(fields)
        ]

    def _say(self, form: str, fields: Fields, said: str, number: int) -> Sample:
        if form == "sub_question":
            return sample("thinks", self._parts[fields["question"], fields["earlier"]])
        problem = self._problems[fields["question"]]
        match form:
            case "chain_of_thought":
                return self._think(problem, slips=number % 2 == 1)
            case "tool":
                return self._call(problem, said)
            case "decompose":
                return sample(plan_text(split(problem)))
            case "criticise":
                return self._criticise(problem, fields["path"])
            case "direct":
                return sample("guesses", -1)
            case _:
                return sample("again", problem.answer)

    def _think(self, problem: Problem, *, slips: bool) -> Sample:
        if not slips:
            return sample(path_text(gold_lines(problem), Style.IN_THE_HEAD), problem.answer)
        path, _ = corrupt(problem, self._rng)
        return sample(path_text(path, Style.IN_THE_HEAD), f"not {problem.answer}, {self._rng.random()}", -0.5)

    def _call(self, problem: Problem, said: str) -> Sample:
        step = said.count("\n")
        if step < problem.num_steps:
            return sample(f"calculate({problem.calculations[step].expression}")
        return sample("Answer", said.splitlines()[-1].rsplit("=", 1)[1])

    def _criticise(self, problem: Problem, path: str) -> Sample:
        claims = [_claim(line) for line in path.splitlines() if "=" in line and not line.startswith("#")]
        pairs = zip(gold_lines(problem), claims, strict=False)
        differs = [i for i, (gold, claim) in enumerate(pairs) if (gold.step, gold.result) != (claim.step, claim.result)]
        text = criticism(problem, claims, differs[0] if differs else None)
        return sample(text, text.splitlines()[-1])


def _claim(line: str) -> Line:
    found = re.fullmatch(r"[a-h] (\d+)([-+*/])(\d+)=(\d+)", line)
    assert found, line
    return Line(Calculation(int(found[1]), found[2], int(found[3])), int(found[4]))


def test_a_model_that_knows_all_but_slips_half_the_time_is_measured_so() -> None:
    figures = evaluate(KnowsAll(), PROBLEMS)
    assert figures["one_path_pct"] == 50.0
    assert figures["vote_of_16_pct"] == 100.0
    assert figures["direct_pct"] == 0.0
    assert figures["tool_pct"] == 100.0
    assert figures["split_on_5_to_8_steps_pct"] == 100.0
    assert figures["critic_finds_wrong_pct"] == 100.0
    assert figures["critic_blames_right_pct"] == 0.0
    assert (figures["before_retry_pct"], figures["one_retry_pct"]) == (50.0, 100.0)
    assert figures["auroc_within_question"] == 1.0


class SaysNothing:
    """Never answers."""

    def ask(
        self, form: str, fields: Sequence[Fields], *, n: int = 1, temperature: float = 0.8, said: Sequence[str] = ()
    ) -> list[list[Sample]]:
        return [[sample("")] * n for _ in fields]


def test_a_model_that_says_nothing_is_worth_nothing() -> None:
    figures = evaluate(SaysNothing(), PROBLEMS)
    percents = {name: value for name, value in figures.items() if name.endswith("_pct") and "by_steps" not in name}
    assert set(percents.values()) == {0.0}
    assert math.isnan(float(str(figures["auroc_within_question"])))


def test_of_answers_with_as_many_votes_the_first_seen_wins() -> None:
    assert majority([sample("", 1), sample("", 2), sample("", 2), sample("", 1)]) == "1"
    assert majority([sample("")] * NUM_VOTES) is None


def test_the_verdict_right_is_what_the_form_finds() -> None:
    assert RIGHT == "right"


def test_auroc_compares_within_a_question_only() -> None:
    easy = [sample("", 1, -0.1), sample("", 2, -0.2)]
    hard = [sample("", 1, -3.0), sample("", 2, -2.0)]
    assert auroc_within([easy, hard], ["1", "1"]) == 0.5
    assert auroc_within([easy, easy], ["1", "1"]) == 1.0
