"""`python -m benchmarks.engine_worker`: the model inside vLLM's engine core against a worker process of its own, on a CPU.

The same questions, 8 paths each, all at once, through our engine with no Kafka beside it: paths/s, and CPU seconds a path of
all its processes. Engines are started anew in turns: A B A B.
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import click

from benchmarks.measuring import medians, record
from benchmarks.stack import vllm_on_one_core

_CHECKOUT = Path(__file__).resolve().parents[1]
_MODEL = _CHECKOUT / "models" / "reasoner"
_SAMPLES, _MAX_RUNNING = 8, 128
_KINDS = {"in the engine core": True, "in a process of its own": False}


async def _decode_all(num_questions: int, *, is_in_core: bool) -> float:
    from conclave import prompts
    from conclave.engine.protocol import DecodeRequest
    from conclave.engine.vllm.engine import VllmEngine

    lines = (_CHECKOUT / "data/problems/test.jsonl").read_text().splitlines()[:num_questions]
    form = prompts.load("reasoner-v3").form("chain_of_thought")
    chats = [form.render({"question": json.loads(line)["question"]}) for line in lines]
    engine = VllmEngine(str(_MODEL), max_running=_MAX_RUNNING, is_in_core=is_in_core)
    await engine.start()
    requests = [
        DecodeRequest(
            sample_id=f"{number}/{sample}", messages=chat.messages, temperature=0.8, max_tokens=256, stop=chat.stop
        )
        for number, chat in enumerate(chats)
        for sample in range(_SAMPLES)
    ]
    await asyncio.gather(*(engine.decode(request) for request in requests[: 5 * _SAMPLES]))  # warm
    started = time.perf_counter()
    await asyncio.gather(*(engine.decode(request) for request in requests))
    rate = len(requests) / (time.perf_counter() - started)
    await engine.stop()
    return rate


def _run(kind: str, num_questions: int) -> tuple[float, float]:
    """Paths/s, and CPU milliseconds a path: the whole life of the processes, start included, alike for both."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "benchmarks.engine_worker", "--one", kind, "--questions", str(num_questions)]
    environment = {**os.environ, **vllm_on_one_core()}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    rates = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("RATE")]
    if not rates:
        raise RuntimeError(done.stderr[-2000:])
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return float(rates[0]), spent_s * 1000 / (num_questions * _SAMPLES)


@click.command()
@click.option("--questions", default=240, show_default=True)
@click.option("--rounds", default=2, show_default=True)
@click.option("--one", type=click.Choice(list(_KINDS)), hidden=True)
def main(questions: int, rounds: int, one: str | None) -> None:
    """Measure both in turns; results go to benchmarks/results/."""
    if one is not None:
        print("RATE", asyncio.run(_decode_all(questions, is_in_core=_KINDS[one])))
        return
    rates: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    spent: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    for number in range(rounds):
        for kind in _KINDS:
            rate, cpu_ms = _run(kind, questions)
            rates[kind].append(rate)
            spent[kind].append(cpu_ms)
            print(f"  round {number + 1}  {kind:<26} {rate:6.1f} paths/s  {cpu_ms:6.1f} CPU ms a path", flush=True)
    ours, theirs = medians(rates).values()
    print(f"paths/s, ratio: {ours / theirs:.2f}")
    result = {"paths_per_s": medians(rates), "ratio": ours / theirs, "cpu_ms_a_path": medians(spent), "all": rates}
    print(record("engine_worker", result))


if __name__ == "__main__":
    main()
