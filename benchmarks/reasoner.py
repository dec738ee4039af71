"""`make bench-reasoner`: what each skill of the shipped model is worth on the 500 held-out problems, through vLLM."""

import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", str((os.cpu_count() or 1) - 1))
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

from benchmarks.measuring import record
from conclave import prompts
from conclave.reasoner.problems import Problem, Split, generate
from conclave.reasoner.skills import corrupt

_CHECKOUT = Path(__file__).resolve().parents[1]
_MODEL = _CHECKOUT / "models" / "reasoner"
_SUB_QUESTION = re.compile(r"^(\d+)(?: needs ([\d ]+))?: (.+)$")
_CALL = re.compile(r"calculate\((\d+)([-+*/%])(\d+)$")


@dataclass(frozen=True, slots=True)
class Sample:
    """One generated path."""

    text: str
    answer: str | None
    num_tokens: int
    mean_logprob: float


class Bench:
    """The model in vLLM, and the prompts that it knows."""

    def __init__(self, model: Path, *, max_running: int) -> None:
        from vllm import LLM

        self._llm = LLM(model=str(model), dtype="float32", enforce_eager=True, max_num_seqs=max_running)
        self._tokenizer: Any = self._llm.get_tokenizer()
        self._set = prompts.load("reasoner-v1")

    def run(
        self,
        form: str,
        fields: Sequence[dict[str, str]],
        *,
        n: int = 1,
        temperature: float = 0.8,
        partial: Sequence[str] = (),
    ) -> list[list[Sample]]:
        """`n` paths for each set of fields; `partial` is what each has said so far."""
        from vllm import SamplingParams

        shape = self._set.form(form)
        texts = [self._chat(shape.render(each).messages[-1].content) for each in fields]
        if partial:
            texts = [text + said for text, said in zip(texts, partial, strict=True)]
        params = SamplingParams(n=n, temperature=temperature, max_tokens=256, logprobs=0, stop=list(shape.stop) or None)
        outputs = self._llm.generate(texts, params, use_tqdm=False)
        return [
            [
                Sample(
                    path.text,
                    shape.extract_answer(path.text),
                    len(path.token_ids),
                    float(path.cumulative_logprob or 0.0) / max(1, len(path.token_ids)),
                )
                for path in output.outputs
            ]
            for output in outputs
        ]

    def _chat(self, content: str) -> str:
        text: str = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        return text


def share(flags: Sequence[bool]) -> float:
    """Percent of true ones."""
    return 100.0 * sum(flags) / max(1, len(flags))


def majority(paths: Sequence[Sample]) -> str | None:
    """The answer with most votes; of several, the one first seen."""
    votes = Counter(path.answer for path in paths if path.answer is not None)
    return votes.most_common(1)[0][0] if votes else None


def auroc_within(questions: Sequence[Sequence[Sample]], answers: Sequence[str]) -> float:
    """Probability that of a right and a wrong path to the same question the right one has the higher mean logprob."""
    wins = pairs = 0.0
    for paths, answer in zip(questions, answers, strict=True):
        right = [path.mean_logprob for path in paths if path.answer == answer]
        wrong = [path.mean_logprob for path in paths if path.answer != answer]
        pairs += len(right) * len(wrong)
        wins += sum(1.0 if r > w else 0.5 if r == w else 0.0 for r in right for w in wrong)
    return wins / pairs if pairs else float("nan")


def with_tool(bench: Bench, questions: Sequence[dict[str, str]]) -> list[str | None]:
    """Answers of one path each that may call `calculate`: its result is put in, and the path goes on."""
    said, answers = [""] * len(questions), [None] * len(questions)
    open_ones = list(range(len(questions)))
    for _ in range(12):
        if not open_ones:
            break
        paths = bench.run("tool", [questions[i] for i in open_ones], partial=[said[i] for i in open_ones])
        still = []
        for i, (path,) in zip(open_ones, paths, strict=True):
            said[i] += path.text
            call = _CALL.search(said[i])
            if call is None:
                answers[i] = path.answer  # type: ignore[call-overload]
                continue
            left, op, right = int(call[1]), call[2], int(call[3])
            results = {
                "+": left + right,
                "-": left - right,
                "*": left * right,
                "/": left // max(1, right),
                "%": left % max(1, right),
            }
            said[i] += f")={results[op]}\n"
            still.append(i)
        open_ones = still
    return answers


def by_parts(bench: Bench, questions: Sequence[dict[str, str]], *, votes: int) -> tuple[list[str | None], int]:
    """Answers by splitting, each part voted, and the tokens that it took."""
    plans = [
        [_SUB_QUESTION.match(line) for line in paths[0].text.splitlines()]
        for paths in bench.run("decompose", questions, temperature=0.0)
    ]
    tokens = 0
    known: list[dict[str, str]] = [{} for _ in questions]
    final: list[str | None] = [None] * len(questions)
    for depth in range(max((len(plan) for plan in plans), default=0)):
        asked = [i for i, plan in enumerate(plans) if depth < len(plan) and plan[depth] is not None]
        fields = []
        for i in asked:
            match = plans[i][depth]
            assert match is not None
            needs = (match[2] or "").split()
            earlier = " ".join(f"#{need}={known[i].get(need, '0')}" for need in needs) or "#0=0"
            fields.append({"earlier": earlier, "question": match[3]})
        for i, paths in zip(asked, bench.run("sub_question", fields, n=votes), strict=True):
            tokens += sum(path.num_tokens for path in paths)
            answer = majority(paths)
            known[i][str(depth + 1)] = answer or "0"
            final[i] = answer
    return final, tokens


def criticism(bench: Bench, problems: Sequence[Problem]) -> dict[str, float]:
    """How often a corrupted path is found wrong, and a gold one blamed."""
    from conclave.reasoner.skills import path_text

    rng = random.Random(5)
    wrong = [{"question": each.question, "path": corrupt(each, rng)[0]} for each in problems]
    right = [{"question": each.question, "path": path_text(each.calculations)} for each in problems]
    found = bench.run("criticise", wrong, temperature=0.0)
    blamed = bench.run("criticise", right, temperature=0.0)
    return {
        "finds_wrong_pct": share([p[0].text.strip() != "right" for p in found]),
        "blames_right_pct": share([p[0].text.strip() != "right" for p in blamed]),
    }


def measure(model: Path, num_problems: int, max_running: int) -> dict[str, object]:
    """Every figure of issue 4's table that this command can take."""
    rows = [json.loads(line) for line in (_CHECKOUT / "data/problems/test.jsonl").read_text().splitlines()][
        :num_problems
    ]
    questions, answers = [{"question": row["question"]} for row in rows], [row["answer"] for row in rows]
    bench = Bench(model, max_running=max_running)
    bench.run("direct", questions[:4])
    started = time.perf_counter()
    votes = bench.run("chain_of_thought", questions, n=16)
    speed = 16 * len(questions) / (time.perf_counter() - started)
    single = share([paths[0].answer == answer for paths, answer in zip(votes, answers, strict=True)])
    mean_single = share([path.answer == answer for paths, answer in zip(votes, answers, strict=True) for path in paths])
    long = [i for i, row in enumerate(rows) if row["difficulty"] >= 5]
    parts, tokens_parts = by_parts(bench, [questions[i] for i in long], votes=5)
    tokens_whole = sum(path.num_tokens for i in long for path in votes[i])
    keep = max(1, min(16, round(16 * tokens_parts / max(1, tokens_whole))))
    result: dict[str, object] = {
        "problems": len(rows),
        "one_path_pct": mean_single,
        "first_path_pct": single,
        "vote_of_16_pct": share([majority(paths) == answer for paths, answer in zip(votes, answers, strict=True)]),
        "direct_pct": share(
            [paths[0].answer == answer for paths, answer in zip(bench.run("direct", questions), answers, strict=True)]
        ),
        "tool_pct": share(
            [found == answer for found, answer in zip(with_tool(bench, questions), answers, strict=True)]
        ),
        "parts_on_5_to_8_steps_pct": share([found == answers[i] for found, i in zip(parts, long, strict=True)]),
        "whole_at_equal_tokens_pct": share([majority(votes[i][:keep]) == answers[i] for i in long]),
        "whole_votes_at_equal_tokens": keep,
        "auroc_mean_logprob_within_question": auroc_within(votes, answers),
        "paths_per_s": speed,
        "by_difficulty_one_path_pct": _by_difficulty(rows, votes, answers),
        **criticism(bench, _structured(len(rows))),
    }
    result["retry_pct"] = _retry(bench, questions, votes, answers)
    return result


def _by_difficulty(
    rows: Sequence[dict[str, Any]], votes: Sequence[Sequence[Sample]], answers: Sequence[str]
) -> dict[int, float]:
    found: dict[int, list[bool]] = {}
    for row, paths, answer in zip(rows, votes, answers, strict=True):
        found.setdefault(row["difficulty"], []).extend(path.answer == answer for path in paths)
    return {steps: share(flags) for steps, flags in sorted(found.items())}


def _structured(number: int) -> list[Problem]:
    """The held-out problems with their structure: made by the generator call that made the file."""
    unique: dict[str, Problem] = {}
    for problem in generate(7, Split.TEST):
        unique.setdefault(problem.question, problem)
        if len(unique) >= number:
            break
    return list(unique.values())


def _retry(
    bench: Bench, questions: Sequence[dict[str, str]], votes: Sequence[Sequence[Sample]], answers: Sequence[str]
) -> float:
    """One path, checked by the model itself, and made again when it is blamed."""
    firsts = [paths[0] for paths in votes]
    fields = [{**question, "path": first.text} for question, first in zip(questions, firsts, strict=True)]
    verdicts = [paths[0].text.strip() for paths in bench.run("criticise", fields, temperature=0.0)]
    blamed = [i for i, verdict in enumerate(verdicts) if verdict != "right"]
    again = bench.run("retry", [{**fields[i], "criticism": verdicts[i]} for i in blamed]) if blamed else []
    final = [first.answer for first in firsts]
    for i, paths in zip(blamed, again, strict=True):
        final[i] = paths[0].answer
    return share([found == answer for found, answer in zip(final, answers, strict=True)])


@click.command()
@click.option("--model", type=click.Path(exists=True, path_type=Path), default=_MODEL)
@click.option("--problems", default=500, show_default=True)
@click.option("--max-running", default=64, show_default=True)
def main(model: Path, problems: int, max_running: int) -> None:
    """Measure the shipped model; the result goes to benchmarks/results/reasoner.json."""
    result = measure(model, problems, max_running)
    for name, value in result.items():
        print(f"{name:<40} {value if not isinstance(value, float) else round(value, 2)}")
    print(record("reasoner", result))


if __name__ == "__main__":
    main()
