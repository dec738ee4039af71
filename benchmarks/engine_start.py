"""`python -m benchmarks.engine_start`: how long our engine takes to its first token against bare AsyncLLM, same folder.

Each start is a process of its own, ours and bare in turns; the time counts from before vLLM is imported.
"""

import asyncio
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import click

from benchmarks.measuring import record

_MODEL = Path(__file__).resolve().parents[1] / "models" / "reasoner"
_MAX_RUNNING = 64


def _say_now() -> None:
    print(f"first_token_at={time.monotonic()}", flush=True)


async def _ours(model: str) -> None:
    from conclave.engine.protocol import DecodeRequest
    from conclave.engine.vllm.engine import VllmEngine
    from conclave.prompts import Message

    engine = VllmEngine(model, max_running=_MAX_RUNNING)
    await engine.start()
    await engine.decode(DecodeRequest(sample_id="first", messages=(Message("user", "1+1"),), max_tokens=1))
    _say_now()
    await engine.stop()


async def _bare(model: str) -> None:
    from vllm import SamplingParams
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    args = AsyncEngineArgs(model=model, max_num_seqs=_MAX_RUNNING, dtype="float32", enforce_eager=True)
    engine = AsyncLLM.from_engine_args(args)
    async for _ in engine.generate("1+1", SamplingParams(max_tokens=1), "first"):
        pass
    _say_now()
    engine.shutdown()


def measure(model: Path, *, rounds: int) -> dict[str, object]:
    """Median seconds to the first token of both, and their ratio."""
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    for number in range(rounds):
        for who, taken in seconds.items():
            taken.append(_start(who, model))
            print(f"  round {number + 1}  engine start, {who:<6} {taken[-1]:6.1f} s", flush=True)
    ours, bare = (statistics.median(taken) for taken in seconds.values())
    print(f"engine start, ratio to bare AsyncLLM: {ours / bare:.2f} (must be at most 1.10)")
    return {"engine_start_s": ours, "bare_start_s": bare, "engine_start_ratio": ours / bare}


def _start(who: str, model: Path) -> float:
    began = time.monotonic()  # the same clock in every process of the machine
    command = [sys.executable, "-m", "benchmarks.engine_start", "--only", who, "--model", str(model)]
    core = str(max(os.sched_getaffinity(0)))
    settings = {"VLLM_CPU_OMP_THREADS_BIND": core, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **settings})
    said = re.search(r"first_token_at=([\d.]+)", done.stdout)
    assert said is not None, f"{who} told no time"
    return float(said[1]) - began


@click.command()
@click.option("--model", type=click.Path(exists=True, path_type=Path), default=_MODEL)
@click.option("--rounds", default=3, show_default=True)
@click.option("--only", type=click.Choice(["ours", "bare"]), help="One start, printing the clock at its first token.")
def main(model: Path, rounds: int, only: str | None) -> None:
    """Compare the starts of the two."""
    match only:
        case "ours":
            asyncio.run(_ours(str(model)))
        case "bare":
            asyncio.run(_bare(str(model)))
        case _:
            print(record("engine_start", measure(model, rounds=rounds)))


if __name__ == "__main__":
    main()
