"""`python -m benchmarks.against_vllm`: what is left of bare vLLM when the whole pipeline stands around it.

Questions a second with vLLM at 8 samples, against bare `LLM.generate` on the same prompts: given all at once, which no service can
be, and in batches of eight questions, 64 sequences, as people run it. Both sides run as vLLM runs on this machine: on a CPU bound
to a core and in float32, on a GPU as the model says, compiled. Joules for each answer where the machine counts them.
"""

import asyncio
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

from benchmarks.measuring import in_turns, medians, record
from benchmarks.meter import Meter
from benchmarks.stack import CHECKOUT, stack, vllm_on_one_core
from conclave.engine.vllm import IS_CPU
from conclave.runtime.client import Client
from conclave.testing.pipeline import Pipeline
from schemas.events import AnswerReached, ReasoningRequested, RequestFailed
from schemas.flow import Topic
from schemas.ids import new_request_id

_SAMPLES = 8
_BATCH = 8  # questions: 64 sequences
_LIMIT_S = 600


@dataclass(frozen=True, slots=True)
class Setup:
    """How both sides run vLLM."""

    model: str
    max_running: int
    dtype: str = "float32" if IS_CPU else "auto"  # as conclave.engine.vllm has it
    enforce_eager: bool = IS_CPU
    samples: int = _SAMPLES
    environment: dict[str, str] = field(default_factory=lambda: vllm_on_one_core() if IS_CPU else {})

    def settings(self) -> dict[str, str]:
        """The same of a stack."""
        return {
            "CONCLAVE_ENGINE": "vllm",
            "CONCLAVE_MODEL": self.model,
            "CONCLAVE_MAX_RUNNING": str(self.max_running),
            "CONCLAVE_MAX_IN_FLIGHT": str(4 * self.max_running),
            **self.environment,
        }


async def against_vllm(setup: Setup, num_questions: int, rounds: int) -> dict[str, object]:
    """Questions a second end to end, by bare vLLM, and by bare vLLM in batches; their ratios; joules where they are told."""
    lines = (CHECKOUT / "data/problems/test.jsonl").read_text().splitlines()
    questions = [json.loads(line)["question"] for line in itertools.islice(itertools.cycle(lines), num_questions)]
    energy: dict[str, list[dict[str, object]]] = {}

    async def conclave() -> float:
        async with stack(setup.settings()) as (pipeline, _):
            await _answer(pipeline, questions[:5])
            with Meter() as meter:
                rate = await _answer(pipeline, questions)
        energy.setdefault("end to end", []).append(meter.told(len(questions)))
        return rate

    def bare(name: str, batch: int) -> Callable[[], Awaitable[float]]:
        async def run() -> float:
            rate, told = await asyncio.to_thread(_bare_vllm, setup, questions, batch)
            energy.setdefault(name, []).append(told)
            return rate

        return run

    figures = await in_turns(
        {
            "questions/s, end to end": conclave,
            "questions/s, bare LLM.generate": bare("bare LLM.generate", len(questions)),
            "questions/s, bare, in batches": bare("bare, in batches", _BATCH),
        },
        rounds=rounds,
    )
    middle = medians(figures)
    ours, theirs, in_batches = middle.values()
    return {
        "questions": len(questions),
        **asdict(setup),
        "model": Path(setup.model).name,
        "medians_per_s": middle,
        "sequences_a_batch": _BATCH * _SAMPLES,
        "ratio": ours / theirs,
        "ratio_to_batches": ours / in_batches,
        **({"energy": energy} if any(told for of_way in energy.values() for told in of_way) else {}),
        "all": figures,
    }


async def _answer(pipeline: Pipeline, questions: list[str]) -> float:
    requests = [ReasoningRequested(question=each, request_id=new_request_id(), policy="fixed-8") for each in questions]
    wanted = {str(request.request_id) for request in requests}
    async with Client(pipeline.address) as client, client.follow(Topic.ANSWERS) as events:
        started = time.perf_counter()
        await client.publish_many(requests)
        async with asyncio.timeout(_LIMIT_S):
            async for _, event in events:
                if isinstance(event, AnswerReached | RequestFailed):
                    wanted.discard(event.request_id)
                if not wanted:
                    break
    return len(questions) / (time.perf_counter() - started)


_BARE = """
import json, os, sys, time
questions, batch, setup = json.load(open(sys.argv[1]))
os.environ.update(setup["environment"], VLLM_LOGGING_LEVEL="ERROR", VLLM_NO_USAGE_STATS="1")
from benchmarks.meter import Meter
from conclave import prompts
import conclave.engine.vllm  # sets what vLLM reads of the environment, as for our own engine
from vllm import LLM, SamplingParams
if __name__ == "__main__":
    llm = LLM(model=setup["model"], dtype=setup["dtype"], enforce_eager=setup["enforce_eager"], max_num_seqs=setup["max_running"])
    form = prompts.load("reasoner-v3").form("chain_of_thought")
    tokenizer = llm.get_tokenizer()
    chats = [[{"role": "user", "content": form.render({"question": each}).messages[-1].content}] for each in questions]
    texts = [tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False) for chat in chats]
    params = SamplingParams(n=setup["samples"], temperature=0.8, max_tokens=256, logprobs=0)
    llm.generate(texts[:5], params, use_tqdm=False)
    with Meter() as meter:
        started = time.perf_counter()
        for begin in range(0, len(texts), batch):
            llm.generate(texts[begin : begin + batch], params, use_tqdm=False)
        rate = len(questions) / (time.perf_counter() - started)
    print("BARE", json.dumps([rate, meter.told(len(questions))]))
"""


def _bare_vllm(setup: Setup, questions: list[str], batch: int) -> tuple[float, dict[str, object]]:
    with tempfile.TemporaryDirectory() as folder:
        data, script = Path(folder) / "questions.json", Path(folder) / "bare.py"
        data.write_text(json.dumps([questions, batch, asdict(setup)]))
        script.write_text(_BARE)
        command = [sys.executable, str(script), str(data)]
        where = os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": where}
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LIMIT_S, env=environment)
    told = [line.removeprefix("BARE ") for line in done.stdout.splitlines() if line.startswith("BARE ")]
    if not told:
        raise RuntimeError(done.stderr[-2000:])
    rate, energy = json.loads(told[0])
    return rate, energy


@click.command()
@click.option("--rounds", default=2, show_default=True)
@click.option("--questions", default=60 if IS_CPU else 2000, show_default="60 on a CPU, 2000 on a GPU")
@click.option(
    "--model", default=str(CHECKOUT / "models" / "reasoner"), show_default="the one that ships", help="Folder or id."
)
@click.option(
    "--max-running",
    default=128 if IS_CPU else 1024,
    show_default="128 on a CPU, 1024 on a GPU",
    help="Sequences at once, of both.",
)
def main(rounds: int, questions: int, model: str, max_running: int) -> None:
    """Measure all three in turns; results go to benchmarks/results/, those of a GPU to a file of their own."""
    setup = Setup(os.path.abspath(model) if Path(model).is_dir() else model, max_running)
    result = asyncio.run(against_vllm(setup, questions, rounds))
    print(record("against_vllm" if IS_CPU else "against_vllm_gpu", result))


if __name__ == "__main__":
    main()
