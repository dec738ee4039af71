"""`conclave sample`: a question set sampled into recordings for `conclave replay`, by engine and decoder alone."""

import asyncio
import gzip
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from conclave import policies
from conclave.cli.recordings import Line
from conclave.engine import ENGINES
from conclave.engine.protocol import Engine
from conclave.runtime.handler import Arrival
from conclave.runtime.settings import load
from schemas.events import Event, PathDecoded, PathFailed, SampleRequested
from schemas.ids import new_request_id
from schemas.values import MAX_SAMPLES, PathFailure, Policy, Step, StepContext
from services.decoder.handler import Decoder
from services.decoder.settings import DecoderSettings

_ASK = "whole"
_LIMIT_MS = 86_400_000
_DECIMALS = 3  # of log probabilities in the file

# After these the set would be of something else than the model's answers.
_FATAL = frozenset({PathFailure.BAD_PROMPT, PathFailure.BAD_REQUEST, PathFailure.ENGINE})

End = PathDecoded | PathFailed


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the question set; what else it says is not read."""

    question: str
    id: str | int | None = None
    answer: str | int | float | None = None


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Gzipped if it ends in .gz."
)
@click.option("--policy", default="default", show_default=True, help="Whose prompts; one with an ask `whole`.")
@click.option("--samples", default=40, show_default=True, type=click.IntRange(1, MAX_SAMPLES), help="Of each question.")
@click.option("--questions", type=click.IntRange(min=1), help="Only so many of the file.")
@click.option(
    "--policies-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Policies besides those that ship.",
)
def sample(
    file: Path, *, out: Path, policy: str, samples: int, questions: int | None, policies_dir: Path | None
) -> None:
    """Sample each question of FILE, and write a recording for `conclave replay`.

    FILE is as `conclave publish` takes it: JSON lines with `question`, and `id` and `answer` if known. The engine is the one of the
    decoder's settings (CONCLAVE_ENGINE, CONCLAVE_MODEL, …). Beside OUT lies OUT.about.json: what was sampled, and from which
    weights.
    """
    found = _policy(policy, policies_dir)
    asked = _questions(file)[:questions]
    settings = load(DecoderSettings)
    started = time.monotonic()
    ends = asyncio.run(_sampled(ENGINES[settings.engine](settings.options()), found, asked, samples))
    lines = [recorded(each, number, of) for number, (each, of) in enumerate(zip(asked, ends, strict=True))]
    written = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    out.write_bytes(gzip.compress(written, mtime=0) if out.suffix == ".gz" else written)
    about = _about(found, settings, file, lines)
    out.with_name(f"{out.name}.about.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    seconds = time.monotonic() - started
    click.echo(f"{out}: {len(lines)} questions, {samples} samples each, {seconds:.0f} s with the engine's start")


async def _sampled(engine: Engine, policy: Policy, asked: Sequence[Question], num_samples: int) -> list[list[End]]:
    await engine.start()
    try:
        with click.progressbar(length=len(asked) * num_samples, label="sampled") as bar:
            return await sampled(engine, policy, [each.question for each in asked], num_samples, lambda: bar.update(1))
    finally:
        await engine.stop()


async def sampled(
    engine: Engine, policy: Policy, questions: Sequence[str], num_samples: int, done: Callable[[], None] = lambda: None
) -> list[list[End]]:
    """The ends of so many paths of each question, in launch order, by the decoder as it runs. `engine` has been started.

    Raises: click.ClickException where paths fail by no fault of the model's.
    """
    decoder, now_ms = Decoder(engine), round(time.time() * 1000)
    room = asyncio.Semaphore(2 * engine.max_running)

    async def one(context: StepContext, index: int) -> End:
        end: Event = SampleRequested(context=context, sample_index=index, launched=num_samples)
        async with room:
            while isinstance(end, SampleRequested):  # again: a policy with chunks hands the path on
                *_, end = await decoder.handle(end, Arrival("", "", now_ms, now_ms, "sample"))
        assert isinstance(end, End)
        if isinstance(end, PathFailed) and end.failure in _FATAL:
            raise click.ClickException(f"{end.failure.value}: {end.message}")
        done()
        return end

    async with asyncio.TaskGroup() as group:
        tasks = [
            [
                group.create_task(one(context, index), name=f"sample {context.step_id} {index}")
                for context in (_context(policy, question, now_ms),)
                for index in range(num_samples)
            ]
            for question in questions
        ]
    return [[task.result() for task in of] for of in tasks]


def _context(policy: Policy, question: str, now_ms: int) -> StepContext:
    return StepContext(
        request_id=new_request_id(),
        step=Step(index=0, fields={"question": question}),
        ask=policy.asks[_ASK],
        prompt_set=policy.prompt_set,
        policy=policy.name,
        deadline_ms=now_ms + _LIMIT_MS,
    )


def recorded(question: Question, number: int, ends: Sequence[End]) -> Line:
    """The line of a question. A failed path costs what it cost, and says nothing."""
    decoded = [end if isinstance(end, PathDecoded) else None for end in ends]

    def figures(name: str) -> list[float | None]:
        values = [None if end is None else getattr(end, name) for end in decoded]
        return (
            [None if value is None else round(value, _DECIMALS) for value in values]
            if any(value is not None for value in values)
            else []
        )

    return Line(
        id=question.id if question.id is not None else str(number),
        gold=None if question.answer is None else str(question.answer),
        answers=[None if end is None else end.answer for end in decoded],
        tokens=[end.tokens_out or 0 for end in ends],
        probabilities=figures("probability"),
        mean_logprobs=figures("mean_logprob"),
        answer_logprobs=figures("answer_logprob"),
        lowest_group_logprobs=figures("lowest_group_logprob"),
        tail_logprobs=figures("tail_logprob"),
    )


def _policy(name: str, folder: Path | None) -> Policy:
    found, problems = policies.load(*([folder] if folder else []))
    if problems:
        raise click.ClickException("\n".join(str(each) for each in problems))
    policy = found.find(name)
    if policy is None or _ASK not in policy.asks:
        able = ", ".join(sorted({each.policy.name for each in found if _ASK in each.policy.asks}))
        raise click.UsageError(f"--policy: expected one with an ask {_ASK!r} ({able}), got {name}")
    return policy


def _questions(file: Path) -> list[Question]:
    found = []
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        if line.strip():
            try:
                found.append(msgspec.json.decode(line, type=Question))
            except msgspec.MsgspecError as error:
                raise click.ClickException(f"{file}, line {number}: {error}") from None
    if not found:
        raise click.ClickException(f"{file}: no questions in it")
    return found


def _about(policy: Policy, settings: DecoderSettings, file: Path, lines: Sequence[Line]) -> dict[str, Any]:
    ask = policy.asks[_ASK]
    return {
        "model": Path(settings.model).name,
        "weights_sha256": weights_digest(Path(settings.model)),
        "engine": settings.engine,
        "policy": policy.name,
        "policy_digest": policy.digest,
        "prompt_set": policy.prompt_set,
        "temperature": ask.temperature,
        "top_p": ask.top_p,
        "max_tokens": ask.max_tokens,
        "questions": len(lines),
        "question_set": file.name,
        "question_set_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "samples": len(lines[0].answers),
    }


def weights_digest(model: Path) -> str | None:
    """SHA-256 over the weights of a model's folder, in the order of their names; None for a model that is elsewhere."""
    files = sorted(model.glob("*.safetensors")) if model.is_dir() else []
    if not files:
        return None
    digest = hashlib.sha256()
    for each in files:
        with each.open("rb") as content:
            while chunk := content.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
