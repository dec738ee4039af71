"""Samples the shipped model on the 500 held-out problems, or on development ones, with log probabilities, for `conclave replay`.

    python -m benchmarks.replay_set --out tests/data/replay_own/reasoner_held-out.jsonl.gz

By PyTorch alone (training/shared_prompt_engine.py): it needs no vLLM, takes the GPU where there is one (`--at-once 125` then), and
draws the same paths for the same seed, batches and kind of device. `conclave sample`
makes a set by any engine that decodes. Beside the set lies what it was sampled from, with the digest of the weights.
"""

import gzip
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from training.device import device
from training.generator import development, held_out
from training.problems import Problem
from training.shared_prompt_engine import SharedPromptEngine

_MODEL = Path(__file__).resolve().parents[1] / "models" / "reasoner"
_SEED = 15


@dataclass(frozen=True, slots=True)
class _Split:
    """The problems of a split, where they are from, and what their lines' ids begin with."""

    first: Callable[[int], list[Problem]]
    source: str
    id: str


_SPLITS: Mapping[str, _Split] = {
    "held-out": _Split(held_out, "training.generator.held_out, which data/problems/test.jsonl is", "test"),
    "development": _Split(development, "training.generator.development", "development"),
}


@dataclass(frozen=True, slots=True)
class _Sampling:
    """What is sampled, how, and of what. A batch is seeded by where it begins: it draws the same in whatever process."""

    model: Path
    policy: Policy
    split: str
    num_samples: int
    num_questions: int
    at_once: int

    def batch(self, begin: int) -> list[bytes]:
        """The lines of the questions from this one on, so many as are sampled at once."""
        ask = self.policy.asks["whole"]
        form = prompts.load(self.policy.prompt_set).form(ask.form)
        asked = _SPLITS[self.split].first(self.num_questions)[begin : begin + self.at_once]
        rendered = [form.render({"question": problem.question}).messages for problem in asked]
        engine = SharedPromptEngine(self.model, seed=_SEED + begin)
        sampled = engine.sample(rendered, self.num_samples, temperature=ask.temperature, max_tokens=ask.max_tokens)
        name = _SPLITS[self.split].id
        return [
            msgspec.json.encode(_line(f"{name}-{number:03}", problem, form, paths))
            for number, (problem, paths) in enumerate(zip(asked, sampled, strict=True), begin)
        ]

    def about(self) -> dict[str, object]:
        """What a set of it should say of itself."""
        ask = self.policy.asks["whole"]
        return {
            "model": self.model.name,
            "weights_sha256": weights_digest(self.model),
            "engine": "training.shared_prompt_engine",
            "device": device().type,
            "seed": _SEED,
            "at_once": self.at_once,
            "policy": self.policy.name,
            "prompt_set": self.policy.prompt_set,
            "temperature": ask.temperature,
            "top_p": ask.top_p,
            "max_tokens": ask.max_tokens,
            "questions": self.num_questions,
            "question_set": _SPLITS[self.split].source,
            "samples": self.num_samples,
        }


@click.command()
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--model", default=_MODEL, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--policy", default="default", show_default=True)
@click.option("--samples", default=40, show_default=True)
@click.option("--questions", default=500, show_default=True)
@click.option("--split", type=click.Choice(list(_SPLITS)), default="held-out", show_default=True)
@click.option("--at-once", default=10, show_default=True, help="Questions in a batch. Other batches draw other paths.")
@click.option("--processes", default=1, show_default=True, help="A thread each; the set is the same.")
def main(
    out: Path, model: Path, policy: str, samples: int, questions: int, split: str, at_once: int, processes: int
) -> None:
    """Sample problems into OUT, and say what of beside it. Begun again, it goes on where it was stopped."""
    found = policies.shipped().find(policy)
    if found is None:
        raise click.UsageError(f"--policy: no policy {policy} ships")
    sampling = _Sampling(model, found, split, samples, questions, at_once)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.name}.part")
    lines = part.read_bytes().splitlines() if part.exists() else []
    begun, started = range(len(lines), questions, at_once), time.monotonic()
    with get_context("spawn").Pool(processes) as pool, part.open("ab") as written:
        for of_batch in pool.imap(sampling.batch, begun):
            lines += of_batch
            written.write(b"".join(line + b"\n" for line in of_batch))
            written.flush()
            print(f"{len(lines)} of {questions} questions, {time.monotonic() - started:.0f} s", flush=True)
    out.write_bytes(gzip.compress(b"".join(line + b"\n" for line in lines), mtime=0))
    part.unlink()
    out.with_name(f"{out.name}.about.json").write_text(json.dumps(sampling.about(), indent=2) + "\n", encoding="utf-8")


def _line(line_id: str, problem: Problem, form: Form, paths: Sequence[Decoded]) -> Line:
    answers = [form.read(path.text, "", is_cut=path.finish_reason is FinishReason.LENGTH).answer for path in paths]
    sure = [
        token_confidence(path.token_logprobs, path.token_texts, text=path.text, answer=answer)
        for path, answer in zip(paths, answers, strict=True)
    ]
    return Line(
        id=line_id,
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
