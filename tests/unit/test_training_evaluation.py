"""The measures, on models whose worth is known."""

import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from conclave import prompts
from conclave.engine.protocol import Decoded, DecodeRequest
from conclave.prompts import FIELDS
from schemas.values import FinishReason
from training.corpus import PROMPT_SET
from training.criticism import criticism
from training.decoding import Fields, Path
from training.evaluation import NUM_VOTES, auroc_within, evaluate, voted
from training.generator import held_out
from training.parts import answers_of, needed_answers, plan_text, split
from training.paths import Line, Style, gold_lines, path_text
from training.problems import Calculation, Problem
from training.skills import DECLINE
from training.slips import corrupt

PROBLEMS = held_out(60)
OTHERS = ["What is the capital of France?", "Tom has 12 apples. Are they red?"]
FORMS = prompts.load(PROMPT_SET).forms


def asked(request: DecodeRequest) -> tuple[str, Fields]:
    """The form of a prompt, and what its fields were filled with."""
    for name, form in FORMS.items():
        pattern = re.escape(form.user)
        for each in FIELDS:
            pattern = pattern.replace(re.escape("{" + each + "}"), f"(?P<{each}>.*)")
        if found := re.fullmatch(pattern, request.messages[0].content, re.DOTALL):
            return name, found.groupdict()
    raise AssertionError(request)


def decoded(text: str, logprob: float = -0.1) -> Decoded:
    return Decoded(text, FinishReason.STOP, 10, len(text.split()), logprob, None, 0.0, 0.0, 0.0)


def path(answer: object = None, logprob: float = -0.1) -> Path:
    return Path((), None if answer is None else str(answer), None, 5, logprob)


def parts_with_answers(problem: Problem) -> Iterator[tuple[tuple[str, str], int]]:
    """For each part of a problem its text and what came earlier, and the answer."""
    parts = split(problem)
    for part in parts:
        yield (part.text, needed_answers(part.needs, answers_of(parts))), part.steps[-1].result


class KnowsAll:
    """Answers every form as it was taught; asked to think, it slips on every other path."""

    def __init__(self) -> None:
        self._rng = random.Random(1)
        self._num_thought: Counter[str] = Counter()
        self._problems = {problem.question: problem for problem in PROBLEMS}
        self._parts = {key: answer for problem in PROBLEMS for key, answer in parts_with_answers(problem)}

    def decode(self, requests: Sequence[DecodeRequest]) -> list[Decoded]:
        return [self._say(*asked(each), each.messages[1].content if each.messages[1:] else "") for each in requests]

    def _say(self, form: str, fields: Fields, said: str) -> Decoded:
        if fields["question"] in OTHERS:
            return decoded(DECLINE)
        if form == "sub_question":
            return decoded(f"Answer: {self._parts[fields['question'], fields['earlier']]}")
        problem = self._problems[fields["question"]]
        match form:
            case "chain_of_thought":
                self._num_thought[problem.question] += 1
                return self._think(problem, slips=self._num_thought[problem.question] % 2 == 0)
            case "tool":
                return self._call(problem, said)
            case "decompose":
                return decoded(plan_text(split(problem)))
            case "criticise":
                return self._criticise(problem, fields["path"])
            case "direct":
                return decoded("Answer: -1")
            case _:
                return decoded(f"Answer: {problem.answer}")

    def _think(self, problem: Problem, *, slips: bool) -> Decoded:
        if not slips:
            return decoded(path_text(gold_lines(problem), Style.IN_THE_HEAD))
        path, _ = corrupt(problem, self._rng)
        text = path_text(path, Style.IN_THE_HEAD)
        return decoded(re.sub(r"Answer: .*", f"Answer: -{self._rng.randrange(10**6)}", text), -0.5)

    def _call(self, problem: Problem, said: str) -> Decoded:
        step = said.count("\n")
        if step < problem.num_steps:
            return decoded(f"calculate({problem.calculations[step].expression}")
        return decoded("Answer: " + said.splitlines()[-1].rsplit("=", 1)[1])

    def _criticise(self, problem: Problem, path: str) -> Decoded:
        claims = [_claim(line) for line in path.splitlines() if re.match("[a-h] .*=", line)]
        pairs = zip(gold_lines(problem), claims, strict=False)
        differs = [i for i, (gold, claim) in enumerate(pairs) if (gold.step, gold.result) != (claim.step, claim.result)]
        return decoded(criticism(problem, claims, differs[0] if differs else None))


def _claim(line: str) -> Line:
    found = re.fullmatch(r"[a-h] (\d+)([-+*/])(\d+)=(\d+)", line)
    assert found, line
    return Line(Calculation(int(found[1]), found[2], int(found[3])), int(found[4]))


def test_a_model_that_knows_all_but_slips_half_the_time_is_measured_so() -> None:
    figures = evaluate(KnowsAll(), PROBLEMS, OTHERS)
    assert figures["one_path_pct"] == 50.0
    assert figures["vote_of_16_pct"] == 100.0
    assert figures["direct_pct"] == 0.0
    assert figures["tool_pct"] == 100.0
    assert figures["split_on_5_to_8_steps_pct"] == 100.0
    assert figures["critic_finds_wrong_pct"] == 100.0
    assert figures["critic_blames_right_pct"] == 0.0
    assert (figures["before_retry_pct"], figures["one_retry_pct"]) == (50.0, 100.0)
    assert figures["auroc_within_question"] == 1.0
    assert (figures["declined_of_non_problems_pct"], figures["declined_of_problems_pct"]) == (100.0, 0.0)
    assert figures["declined_in_other_forms_pct"] == dict.fromkeys(
        ("direct", "tool", "decompose", "sub_question"), 100.0
    )


class SaysNothing:
    """Never answers."""

    def decode(self, requests: Sequence[DecodeRequest]) -> list[Decoded]:
        return [decoded("") for _ in requests]


def test_a_model_that_says_nothing_is_worth_nothing() -> None:
    figures = evaluate(SaysNothing(), PROBLEMS, OTHERS)
    percents = {name: value for name, value in figures.items() if name.endswith("_pct") and not isinstance(value, dict)}
    assert set(percents.values()) == {0.0}
    assert math.isnan(float(str(figures["auroc_within_question"])))


def test_of_answers_with_as_many_votes_the_first_seen_wins() -> None:
    assert voted([path(1), path(2), path(2), path(1)]) == "1"
    assert voted([path()] * NUM_VOTES) is None


def test_auroc_compares_within_a_question_only() -> None:
    easy = [path(1, -0.1), path(2, -0.2)]
    hard = [path(1, -3.0), path(2, -2.0)]
    assert auroc_within([easy, hard], ["1", "1"]) == 0.5
    assert auroc_within([easy, easy], ["1", "1"]) == 1.0
