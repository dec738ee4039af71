"""What each skill of the reasoner is worth: the measures of issue 4's table, over problems and a model."""

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from training.criticism import RIGHT
from training.parts import needed_answers
from training.problems import Calculation, Problem
from training.sampling import Fields, Model, Sample

NUM_VOTES = 16
PART_VOTES = 3  # ballots for each part of a split problem; a part is short and on paper, so more of them agree
_CHECKED = 4  # paths of each question that are criticised and tried again
_LONG = 5  # steps from which splitting is measured
_MAX_CALLS = 12
_PART = re.compile(r"^(\d+)(?: needs ([\d ]+))?: (.+)$")
_CALL = re.compile(r"calculate\((\d+)([-+*/])(\d+)$")


@dataclass(frozen=True, slots=True)
class Part:
    """One sub-question of a plan: its number, the numbers of those that it needs, and its text."""

    number: int
    needs: tuple[int, ...]
    text: str


def evaluate(model: Model, problems: Sequence[Problem]) -> dict[str, object]:
    """Every figure, in percent where the name says so. Takes a few minutes for 500 problems on one core."""
    questions: list[Fields] = [{"question": each.question} for each in problems]
    answers = [str(each.answer) for each in problems]
    model.ask("chain_of_thought", questions[:4])  # what the first call sets up is not timed
    started = time.perf_counter()
    votes = model.ask("chain_of_thought", questions, n=NUM_VOTES)
    paths_per_s = NUM_VOTES * len(problems) / (time.perf_counter() - started)
    direct = model.ask("direct", questions)
    return {
        "num_problems": len(problems),
        "one_path_pct": share([path.answer == answer for path, answer in _each(votes, answers)]),
        "vote_of_16_pct": share([majority(paths) == answer for paths, answer in zip(votes, answers, strict=True)]),
        "direct_pct": share([path.answer == answer for path, answer in _each(direct, answers)]),
        "tool_pct": share(
            [found == answer for found, answer in zip(with_tool(model, questions), answers, strict=True)]
        ),
        **splitting(model, problems, votes),
        **criticism(model, problems, [paths[:_CHECKED] for paths in votes]),
        "auroc_within_question": auroc_within(votes, answers),
        "paths_per_s": paths_per_s,
        "one_path_by_steps_pct": _by_steps(problems, votes),
    }


def with_tool(model: Model, questions: Sequence[Fields]) -> list[str | None]:
    """Answers of one path each that may call `calculate`: the result is put in, and the path goes on."""
    said = [""] * len(questions)
    answers: list[str | None] = [None] * len(questions)
    going_on = list(range(len(questions)))
    for _ in range(_MAX_CALLS):
        paths = model.ask("tool", [questions[i] for i in going_on], said=[said[i] for i in going_on])
        calling = []
        for i, (path,) in zip(going_on, paths, strict=True):
            said[i] += path.text
            call = _CALL.search(said[i])
            if call is None:
                answers[i] = path.answer
                continue
            said[i] += f")={calculate(int(call[1]), call[2], int(call[3]))}\n"
            calling.append(i)
        going_on = calling
    return answers


def calculate(left: int, op: str, right: int) -> int:
    """What the tool answers; 0 for a division by nothing, which the model never saw an error for."""
    return 0 if op == "/" and right == 0 else Calculation(left, op, right).result


def parse_plan(text: str) -> list[Part]:
    """The parts that a split names, in order; a line that is no part ends them."""
    parts: list[Part] = []
    for line in text.splitlines():
        match = _PART.match(line)
        if match is None:
            break
        parts.append(Part(int(match[1]), tuple(map(int, (match[2] or "").split())), match[3]))
    return parts


def by_parts(model: Model, questions: Sequence[Fields]) -> tuple[list[str | None], int]:
    """Answers by splitting once, each part put to a vote, and all tokens that it took, the plans' included."""
    written = model.ask("decompose", questions, temperature=0.0)
    plans = [parse_plan(paths[0].text) for paths in written]
    num_tokens = sum(paths[0].num_tokens for paths in written)
    known: list[dict[int, str]] = [{} for _ in questions]
    final: list[str | None] = [None] * len(questions)
    for depth in range(max(map(len, plans), default=0)):
        asked = [i for i, plan in enumerate(plans) if depth < len(plan)]
        fields = [_part_fields(plans[i][depth], known[i]) for i in asked]
        for i, paths in zip(asked, model.ask("sub_question", fields, n=PART_VOTES), strict=True):
            num_tokens += sum(path.num_tokens for path in paths)
            final[i] = majority(paths)
            known[i][plans[i][depth].number] = final[i] or "0"
    return final, num_tokens


def _part_fields(part: Part, known: dict[int, str]) -> Fields:
    return {"question": part.text, "earlier": needed_answers(part.needs, known)}


def splitting(model: Model, problems: Sequence[Problem], votes: Sequence[Sequence[Sample]]) -> dict[str, float]:
    """Splitting against as many votes on the whole as the same tokens buy, on long problems; more are asked for if need be."""
    long = [i for i, each in enumerate(problems) if each.num_steps >= _LONG]
    answers = [str(problems[i].answer) for i in long]
    questions: list[Fields] = [{"question": problems[i].question} for i in long]
    found, num_tokens = by_parts(model, questions)
    whole_tokens = sum(path.num_tokens for i in long for path in votes[i]) / NUM_VOTES
    num_whole = max(1, round(num_tokens / max(1.0, whole_tokens)))
    more = (
        model.ask("chain_of_thought", questions, n=num_whole - NUM_VOTES)
        if num_whole > NUM_VOTES
        else [[] for _ in long]
    )
    whole = [[*votes[i], *others][:num_whole] for i, others in zip(long, more, strict=True)]
    return {
        "split_on_5_to_8_steps_pct": share([a == b for a, b in zip(found, answers, strict=True)]),
        "whole_at_equal_tokens_pct": share([majority(a) == b for a, b in zip(whole, answers, strict=True)]),
        "whole_votes_at_equal_tokens": num_whole,
    }


def criticism(model: Model, problems: Sequence[Problem], paths: Sequence[Sequence[Sample]]) -> dict[str, float]:
    """How the critic judges the model's own paths, and what one retry of those that it blames comes to."""
    flat = [(problem, path) for problem, some in zip(problems, paths, strict=True) for path in some]
    fields = [{"question": problem.question, "path": path.text} for problem, path in flat]
    verdicts = [said[0].answer for said in model.ask("criticise", fields, temperature=0.0)]
    is_right = [path.answer == str(problem.answer) for problem, path in flat]
    blamed = [i for i, verdict in enumerate(verdicts) if verdict not in (RIGHT, None)]
    again = model.ask("retry", [{**fields[i], "criticism": str(verdicts[i])} for i in blamed])
    final = [path.answer for _, path in flat]
    for i, (path,) in zip(blamed, again, strict=True):
        final[i] = path.answer
    return {
        "critic_finds_wrong_pct": share(
            [v not in (RIGHT, None) for v, ok in zip(verdicts, is_right, strict=True) if not ok]
        ),
        "critic_blames_right_pct": share([v != RIGHT for v, ok in zip(verdicts, is_right, strict=True) if ok]),
        "before_retry_pct": share(is_right),
        "one_retry_pct": share([a == str(problem.answer) for a, (problem, _) in zip(final, flat, strict=True)]),
    }


def share(flags: Sequence[bool]) -> float:
    """Percent of true ones; 0 of none."""
    return 100.0 * sum(flags) / max(1, len(flags))


def majority(paths: Sequence[Sample]) -> str | None:
    """The answer with most votes; of several, the one first seen."""
    votes = Counter(path.answer for path in paths if path.answer is not None)
    return votes.most_common(1)[0][0] if votes else None


def auroc_within(questions: Sequence[Sequence[Sample]], answers: Sequence[str]) -> float:
    """Probability that of a right and a wrong path to one question the right one has the higher mean logprob."""
    wins = pairs = 0.0
    for paths, answer in zip(questions, answers, strict=True):
        right = [path.mean_logprob for path in paths if path.answer == answer]
        wrong = [path.mean_logprob for path in paths if path.answer != answer]
        pairs += len(right) * len(wrong)
        wins += sum(1.0 if r > w else 0.5 if r == w else 0.0 for r in right for w in wrong)
    return wins / pairs if pairs else float("nan")


def _each(questions: Sequence[Sequence[Sample]], answers: Sequence[str]) -> list[tuple[Sample, str]]:
    return [(path, answer) for paths, answer in zip(questions, answers, strict=True) for path in paths]


def _by_steps(problems: Sequence[Problem], votes: Sequence[Sequence[Sample]]) -> dict[int, float]:
    found: dict[int, list[bool]] = {}
    for problem, paths in zip(problems, votes, strict=True):
        found.setdefault(problem.num_steps, []).extend(path.answer == str(problem.answer) for path in paths)
    return {steps: share(flags) for steps, flags in sorted(found.items())}
