"""What each skill of the reasoner is worth: each way of reasoning as it ships, over problems and a model."""

import time
from collections.abc import Sequence

from msgspec.structs import replace

from conclave import policies, prompts
from conclave.domain import counting
from schemas.values import Ask, Policy, StopReason
from training.corpus import PROMPT_SET
from training.decoding import BatchDecoder, BatchEngine, Fields, Path
from training.problems import Problem
from training.reasoning import answered, ballot_of

NUM_VOTES = 16
PART_VOTES = 3  # ballots for each part of a split problem; a part is short and on paper, so more of them agree
_CHECKED = 4  # paths of each question that are criticised and tried again
_LONG = 5  # steps from which splitting is measured


def _shipped(policy: str) -> Policy:
    """A policy that ships."""
    found = policies.shipped().find(policy)
    assert found is not None, policy
    return found


def _ask(policy: str) -> Ask:
    """How a policy that ships puts a question as a whole."""
    return _shipped(policy).asks["whole"]


def evaluate(engine: BatchEngine, problems: Sequence[Problem], non_problems: Sequence[str]) -> dict[str, object]:
    """Every figure, in percent where the name says so. Takes a few minutes for 500 problems on one core."""
    decoder = BatchDecoder(engine, prompts.load(PROMPT_SET))
    questions: list[Fields] = [{"question": each.question} for each in problems]
    answers = [str(each.answer) for each in problems]
    decoder.decode(_ask("fixed-16"), questions[:4])  # what the first call sets up is not timed
    started = time.perf_counter()
    votes = decoder.decode(_ask("fixed-16"), questions, num_samples=NUM_VOTES)
    paths_per_s = NUM_VOTES * len(problems) / (time.perf_counter() - started)
    return {
        "num_problems": len(problems),
        "one_path_pct": _right(votes, answers),
        "vote_of_16_pct": share([voted(paths) == answer for paths, answer in zip(votes, answers, strict=True)]),
        "direct_pct": _right(decoder.decode(Ask(form="direct"), questions), answers),
        "tool_pct": _right(decoder.decode(_ask("tool"), questions), answers),
        **declining(decoder, votes, non_problems),
        **splitting(decoder, problems, votes),
        **criticism(decoder, problems, [paths[:_CHECKED] for paths in votes]),
        "auroc_within_question": auroc_within(votes, answers),
        "paths_per_s": paths_per_s,
        "one_path_by_steps_pct": _by_steps(problems, votes),
    }


def declining(decoder: BatchDecoder, votes: Sequence[Sequence[Path]], non_problems: Sequence[str]) -> dict[str, object]:
    """How many requests under the default policy are declined, of problems with these paths and of what is no problem; and how many
    paths of the latter in other forms."""
    texts: list[Fields] = [{"question": each} for each in non_problems]
    others = decoder.decode(_ask("default"), texts, num_samples=NUM_VOTES)
    forms = {
        form: share([path.is_declined for (path,) in decoder.decode(Ask(form=form), texts)])
        for form in ("direct", "tool", "decompose", "sub_question")
    }
    return {
        "declined_of_non_problems_pct": share([is_declined(paths) for paths in others]),
        "declined_of_problems_pct": share([is_declined(paths) for paths in votes]),
        "declined_paths_of_non_problems_pct": share([path.is_declined for paths in others for path in paths]),
        "declined_in_other_forms_pct": forms,
    }


def is_declined(paths: Sequence[Path]) -> bool:
    """Whether the default policy would have come to declining, these being its paths."""
    ask = _ask("default")
    ballots = [ballot_of(path, index) for index, path in enumerate(paths)]
    stop = counting.stop(ballots, ask)
    decisive = ballots if stop is None else ballots[: stop.length]
    return counting.count(decisive, ask, reason=StopReason.EXHAUSTED if stop is None else stop.reason).is_declined


def split_policy() -> Policy:
    """Least-to-most as it ships, with a vote of three on each part."""
    shipped = _shipped("least-to-most")
    part = replace(shipped.asks["sub_question"], stopping="fixed", max_samples=PART_VOTES)
    return replace(shipped, asks={**shipped.asks, "sub_question": part})


def splitting(decoder: BatchDecoder, problems: Sequence[Problem], votes: Sequence[Sequence[Path]]) -> dict[str, float]:
    """Splitting against as many votes on the whole as the same tokens buy, on long problems; more are asked for if need be."""
    long = [i for i, each in enumerate(problems) if each.num_steps >= _LONG]
    answers = [str(problems[i].answer) for i in long]
    questions: list[Fields] = [{"question": problems[i].question} for i in long]
    found = answered(decoder, split_policy(), [problems[i].question for i in long])
    num_tokens = sum(each.num_tokens for each in found)
    whole_tokens = sum(path.num_tokens for i in long for path in votes[i]) / NUM_VOTES
    num_whole = max(1, round(num_tokens / max(1.0, whole_tokens)))
    more = decoder.decode(_ask("fixed-16"), questions, num_samples=max(0, num_whole - NUM_VOTES))
    whole = [[*votes[i], *others][:num_whole] for i, others in zip(long, more, strict=True)]
    return {
        "split_on_5_to_8_steps_pct": share([a.answer == b for a, b in zip(found, answers, strict=True)]),
        "whole_at_equal_tokens_pct": share([voted(a) == b for a, b in zip(whole, answers, strict=True)]),
        "whole_votes_at_equal_tokens": num_whole,
    }


def criticism(decoder: BatchDecoder, problems: Sequence[Problem], paths: Sequence[Sequence[Path]]) -> dict[str, float]:
    """How the critic judges the model's own paths, and what one retry of those that it blames comes to."""
    flat = [(problem, path) for problem, some in zip(problems, paths, strict=True) for path in some]
    answers = [str(problem.answer) for problem, _ in flat]
    is_right = [path.answer == answer for (_, path), answer in zip(flat, answers, strict=True)]
    questions: list[Fields] = [{"question": problem.question} for problem, _ in flat]
    final = decoder.go_on(_ask("criticised"), questions, [path for _, path in flat])
    is_blamed = [len(path.turns) > 2 for path in final]  # tried again after the attempt and its criticism
    return {
        "critic_finds_wrong_pct": share([blamed for blamed, ok in zip(is_blamed, is_right, strict=True) if not ok]),
        "critic_blames_right_pct": share([blamed for blamed, ok in zip(is_blamed, is_right, strict=True) if ok]),
        "before_retry_pct": share(is_right),
        "one_retry_pct": _right([[path] for path in final], answers),
    }


def share(flags: Sequence[bool]) -> float:
    """Percent of true ones; 0 of none."""
    return 100.0 * sum(flags) / max(1, len(flags))


def voted(paths: Sequence[Path]) -> str | None:
    """The answer that a vote of these paths comes to."""
    ballots = [ballot_of(path, index) for index, path in enumerate(paths)]
    return counting.count(ballots, _ask("fixed-16"), reason=StopReason.EXHAUSTED).result.answer


def auroc_within(questions: Sequence[Sequence[Path]], answers: Sequence[str]) -> float:
    """Probability that of a right and a wrong path to one question the right one has the higher mean logprob."""
    wins = pairs = 0.0
    for paths, answer in zip(questions, answers, strict=True):
        right = [path.mean_logprob for path in paths if path.answer == answer]
        wrong = [path.mean_logprob for path in paths if path.answer != answer]
        pairs += len(right) * len(wrong)
        wins += sum(1.0 if r > w else 0.5 if r == w else 0.0 for r in right for w in wrong)
    return wins / pairs if pairs else float("nan")


def _right(questions: Sequence[Sequence[Path]], answers: Sequence[str]) -> float:
    """Percent of all paths that are right."""
    return share([path.answer == answer for paths, answer in zip(questions, answers, strict=True) for path in paths])


def _by_steps(problems: Sequence[Problem], votes: Sequence[Sequence[Path]]) -> dict[int, float]:
    found: dict[int, list[bool]] = {}
    for problem, paths in zip(problems, votes, strict=True):
        found.setdefault(problem.num_steps, []).extend(path.answer == str(problem.answer) for path in paths)
    return {steps: share(flags) for steps, flags in sorted(found.items())}
