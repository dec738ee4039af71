"""Samples the shipped model on the 500 held-out problems, with log probabilities, into a set for `conclave replay`.

    python -m benchmarks.replay_set --out tests/data/replay_own/reasoner_test.jsonl.gz

By PyTorch alone (training/shared_prompt_engine.py): it needs no vLLM, and draws the same paths for the same seed. `conclave sample`
makes a set by any engine that decodes. Beside the set lies what it was sampled from, with the digest of the weights.
"""

import gzip
import json
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import click
import msgspec

from conclave import policies, prompts
from conclave.cli.recordings import Line
from conclave.cli.sampling import weights_digest
from conclave.domain.token_confidence import token_confidence
from conclave.engine.protocol import Decoded
from conclave.prompts import Form
from schemas.values import FinishReason, Policy
from training.generator import held_out
from training.problems import Problem
from training.shared_prompt_engine import SharedPromptEngine

_MODEL = Path(__file__).resolve().parents[1] / "models" / "reasoner"
_AT_ONCE = 10  # questions
_SEED = 15


@click.command()
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--model", default=_MODEL, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--policy", default="default", show_default=True)
@click.option("--samples", default=40, show_default=True)
@click.option("--questions", default=500, show_default=True)
@click.option("--processes", default=1, show_default=True, help="A thread each; the set is the same.")
def main(out: Path, model: Path, policy: str, samples: int, questions: int, processes: int) -> None:
    """Sample the held-out problems into OUT, and say what of beside it. Begun again, it goes on where it was stopped."""
    found = policies.shipped().find(policy)
    if found is None:
        raise click.UsageError(f"--policy: no policy {policy} ships")
    ask = found.asks["whole"]
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.name}.part")
    lines = part.read_bytes().splitlines() if part.exists() else []
    begun, started = range(len(lines), questions, _AT_ONCE), time.monotonic()
    with get_context("spawn").Pool(processes) as pool, part.open("ab") as written:
        for of_batch in pool.imap(partial(_sampled, model, found, samples, questions), begun):
            lines += of_batch
            written.write(b"".join(line + b"\n" for line in of_batch))
            written.flush()
            print(f"{len(lines)} of {questions} questions, {time.monotonic() - started:.0f} s", flush=True)
    out.write_bytes(gzip.compress(b"".join(line + b"\n" for line in lines), mtime=0))
    part.unlink()
    about = {
        "model": model.name,
        "weights_sha256": weights_digest(model),
        "engine": "training.shared_prompt_engine",
        "seed": _SEED,
        "policy": found.name,
        "prompt_set": found.prompt_set,
        "temperature": ask.temperature,
        "top_p": ask.top_p,
        "max_tokens": ask.max_tokens,
        "questions": len(lines),
        "question_set": "training.generator.held_out, which data/problems/test.jsonl is",
        "samples": samples,
    }
    out.with_name(f"{out.name}.about.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _sampled(model: Path, policy: Policy, num_samples: int, num_questions: int, begin: int) -> list[bytes]:
    """A batch of questions. Seeded by where it begins: it draws the same in whatever process."""
    ask, form = policy.asks["whole"], prompts.load(policy.prompt_set).form(policy.asks["whole"].form)
    asked = held_out(num_questions)[begin : begin + _AT_ONCE]
    rendered = [form.render({"question": problem.question}).messages for problem in asked]
    engine = SharedPromptEngine(model, seed=_SEED + begin)
    paths = engine.sample(rendered, num_samples, temperature=ask.temperature, max_tokens=ask.max_tokens)
    lines = [_line(begin + at, problem, form, of) for at, (problem, of) in enumerate(zip(asked, paths, strict=True))]
    return [msgspec.json.encode(line) for line in lines]


def _line(number: int, problem: Problem, form: Form, paths: Sequence[Decoded]) -> Line:
    answers = [form.read(path.text, "", is_cut=path.finish_reason is FinishReason.LENGTH).answer for path in paths]
    sure = [
        token_confidence(path.token_logprobs, path.token_texts, text=path.text, answer=answer)
        for path, answer in zip(paths, answers, strict=True)
    ]
    return Line(
        id=f"test-{number:03}",
        gold=str(problem.answer),
        answers=answers,
        tokens=[path.tokens_out or 0 for path in paths],
        mean_logprobs=[_rounded(path.mean_logprob) for path in paths],
        answer_logprobs=[_rounded(each.answer) for each in sure],
        lowest_group_logprobs=[_rounded(each.lowest_group) for each in sure],
        tail_logprobs=[_rounded(each.tail) for each in sure],
    )


def _rounded(logprob: float | None) -> float | None:
    return None if logprob is None else round(logprob, 3)


if __name__ == "__main__":
    main()
