"""`python -m benchmarks.against_others`: right answers a second against its_hub and optillm, on the same model, engine and budget.

Held-out problems, all asked at once, with 8 and with 16 paths at most each. Conclave is asked through Kafka, with every service and
the database beside it. its_hub 1.2.0 and optillm 0.4.0 are installed from the registry into an environment of their own (a
temporary folder, kept for the next time), and vote by their own code (`benchmarks/other_votes.py`) on vLLM's own server, which is
given what Conclave's engine is given: the same model, sequences at once, core, temperature, and the model inside the engine core's
process (decision 0033). Rounds go A B A B, each on problems of its own, and whoever is not asked does not run.

Told of each way: right answers in percent, answers and right answers a second, tokens an answer (the server's as vLLM counts them,
those of paths that were given up too; Conclave's as its answers say, of the paths that were counted).
"""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.measuring import record
from benchmarks.stack import stack, vllm_on_one_core
from benchmarks.vllm_server import MODEL, model_server, tokens_so_far
from benchmarks.vote_live import SETTINGS, asked_at_once
from conclave import prompts
from conclave.domain.equivalence import are_same
from conclave.domain.extraction.replies import answer_line
from conclave.runtime.client import Client

_CHECKOUT = Path(__file__).resolve().parents[1]
_SCRIPT = Path(__file__).with_name("other_votes.py")
_RUNNING = 96  # sequences at once: its_hub's client has 100 connections, and no setting for more
_BUDGETS = (8, 16)
_TEMPERATURE, _MAX_TOKENS = 0.8, 256

# Policy by what it is called here. The plain vote takes all paths of the budget.
OURS = {"conclave, confident": "confident", "conclave, default": "default", "conclave, plain vote": "fixed-16"}
# Name of the way in other_votes.py.
THEIRS = {
    "its_hub, self-consistency": "self-consistency",
    "its_hub, beta self-consistency": "beta-self-consistency",
    "optillm, self_consistency": "self_consistency",
    "optillm, majority_voting": "majority_voting",
}
_PACKAGES = ("its_hub==1.2.0", "optillm==0.4.0")
# What of theirs these ways import: all that optillm asks for is several gigabytes, PyTorch among them.
_IMPORTED = (
    "aiohttp", "backoff", "certifi", "requests", "openai", "flask", "cerebras_cloud_sdk", "networkx", "z3-solver<=4.15.4.0",
    "sympy", "pyyaml", "math-verify", "numpy", "typing-extensions",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """What a way made of some problems."""

    right: tuple[bool, ...]
    seconds: float
    tokens: int


def told(runs: Sequence[Run]) -> dict[str, float]:
    """The figures of a way over all its runs."""
    num_problems, num_right = sum(len(run.right) for run in runs), sum(sum(run.right) for run in runs)
    seconds = sum(run.seconds for run in runs)
    return {
        "right_pct": round(100 * num_right / num_problems, 2),
        "answers_s": round(num_problems / seconds, 3),
        "right_answers_s": round(num_right / seconds, 3),
        "tokens_an_answer": round(sum(run.tokens for run in runs) / num_problems, 1),
    }


def ratios(figures: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Right answers a second of each of our ways ÷ those of each other."""
    return {
        ours: {
            theirs: round(figures[ours]["right_answers_s"] / max(1e-9, figures[theirs]["right_answers_s"]), 2)
            for theirs in THEIRS
        }
        for ours in OURS
    }


def is_right(text: str, gold: str) -> bool:
    """Whether a text ends with the right answer."""
    answer = answer_line(text, False)
    return answer is not None and are_same(answer, gold)


async def ours(problems: Sequence[Mapping[str, str]]) -> dict[tuple[str, int], Run]:
    """Each policy at each budget, end to end."""
    runs: dict[tuple[str, int], Run] = {}
    settings = {
        **SETTINGS,
        **vllm_on_one_core(),
        "CONCLAVE_MAX_RUNNING": str(_RUNNING),
        "CONCLAVE_MAX_IN_FLIGHT": "512",
    }
    async with stack(settings) as (pipeline, _), Client(pipeline.address) as client:
        await asked_at_once(client, problems[:5], "default", 8)  # warm
        for name, policy in OURS.items():
            for budget in _BUDGETS:
                seconds, came = await asked_at_once(client, problems, policy, budget)
                right = tuple(each.is_right for each in came)
                runs[name, budget] = _said(name, budget, Run(right, seconds, sum(each.tokens for each in came)))
    return runs


async def theirs(problems: Sequence[Mapping[str, str]], python: Path) -> dict[tuple[str, int], Run]:
    """Each of the others' ways at each budget, on vLLM's server."""
    form = prompts.load("reasoner-v3").form("chain_of_thought")
    asked = [form.render({"question": each["question"]}).messages[-1].content for each in problems]
    runs: dict[tuple[str, int], Run] = {}
    async with model_server(_RUNNING) as address:
        endpoint = f"{address}/v1"
        await _voted(python, endpoint, "majority_voting", 8, asked[:5])  # warm
        for name, way in THEIRS.items():
            for budget in _BUDGETS:
                before = await tokens_so_far(address)
                seconds, texts = await _voted(python, endpoint, way, budget, asked)
                right = tuple(is_right(text, each["answer"]) for text, each in zip(texts, problems, strict=True))
                tokens = await tokens_so_far(address) - before
                runs[name, budget] = _said(name, budget, Run(right, seconds, tokens))
    return runs


def _said(name: str, budget: int, run: Run) -> Run:
    print(f"  {name:<32} {budget:>3} paths  {told([run])}", flush=True)
    return run


async def _voted(python: Path, endpoint: str, way: str, budget: int, asked: Sequence[str]) -> tuple[float, list[str]]:
    """Seconds and texts. Raises: RuntimeError with what the other process said."""
    told = {
        "way": way,
        "endpoint": endpoint,
        "model": MODEL.name,
        "budget": budget,
        "temperature": _TEMPERATURE,
        "max_tokens": _MAX_TOKENS,
        "at_once": _RUNNING,
        "prompts": list(asked),
    }
    process = await asyncio.create_subprocess_exec(
        python, _SCRIPT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, said = await process.communicate(json.dumps(told).encode())
    if process.returncode:
        raise RuntimeError(said.decode()[-2000:])
    answer = json.loads(out)
    return answer["seconds"], answer["texts"]


def installed() -> Path:
    """The Python of an environment that holds both others, made where it is not there yet."""
    folder = Path(tempfile.gettempdir()) / "-".join(
        ("conclave-others", *(each.replace("==", "-") for each in _PACKAGES))
    )
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        install = [uv, "pip", "install", "--quiet", "--python", str(python)]
        subprocess.run([*install, "--no-deps", *_PACKAGES], check=True)
        subprocess.run([*install, *_IMPORTED], check=True)
        (folder / "complete").touch()
    return python


async def measure(problems: Sequence[Mapping[str, str]], rounds: int, python: Path) -> dict[str, object]:
    """All figures, over `rounds` rounds that share the problems out among them."""
    runs: dict[tuple[str, int], list[Run]] = {}
    for number in range(rounds):
        some = problems[number::rounds]
        for found in (await theirs(some, python), await ours(some)):
            for key, run in found.items():
                runs.setdefault(key, []).append(run)
    figures = {
        str(budget): {name: told(of) for (name, each), of in runs.items() if each == budget} for budget in _BUDGETS
    }
    return {
        "problems": len(problems),
        "at_once": _RUNNING,
        "others": list(_PACKAGES),
        "by_budget": figures,
        "right_answers_s_of": {budget: ratios(of) for budget, of in figures.items()},
    }


@click.command()
@click.option("--problems", "num_problems", default=192, show_default=True, help="In all rounds together.")
@click.option("--rounds", default=2, show_default=True)
@click.option("--smoke", is_flag=True, help="Write no result.")
def main(num_problems: int, rounds: int, *, smoke: bool) -> None:
    """See the module's docstring."""
    lines = (_CHECKOUT / "data/problems/test.jsonl").read_text().splitlines()
    problems = [json.loads(line) for line in lines[:num_problems]]
    figures = asyncio.run(measure(problems, rounds, installed()))
    click.echo(json.dumps(figures, indent=2))
    if not smoke:
        click.echo(record("against_others", figures))


if __name__ == "__main__":
    main()
