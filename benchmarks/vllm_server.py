"""vLLM's own OpenAI-compatible server with the shipped model, given what Conclave's engine gives vLLM."""

import asyncio
import json
import os
import signal
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.stack import vllm_on_one_core
from conclave.local.machine.ports import LOOPBACK, free_port
from conclave.testing.waiting import until_async

# The server's own process must be bound to no core: its OpenMP reads its settings as PyTorch is loaded, the engine core's later.
_LAUNCH = """
import json, os, runpy, sys, torch
os.environ.update(json.loads(sys.argv.pop(1)))
runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)
"""
MODEL = Path(__file__).resolve().parents[1] / "models" / "reasoner"


@asynccontextmanager
async def model_server(num_running: int) -> AsyncIterator[str]:
    """The address of the server, which runs `num_running` sequences at once."""
    port = free_port()
    address = f"http://{LOOPBACK}:{port}"
    with tempfile.TemporaryDirectory() as folder:
        template, log = Path(folder) / "chat_template.jinja", Path(folder) / "vllm.log"
        _write_template(template)
        with log.open("w") as output:
            process = await asyncio.create_subprocess_exec(
                *_command(port, num_running, template),
                env=_environment(),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            await until_async(lambda: _is_there(process, address, log), limit_s=600, what="vLLM's server")
            yield address
        finally:
            await _ended(process)


def _write_template(path: Path) -> None:
    """The model's own, but for system messages that are empty: optillm sends them, and this model has never seen any."""
    text = (MODEL / "chat_template.jinja").read_text()
    path.write_text(text.replace("message in messages", "message in messages if message['content']", 1))


def _command(port: int, num_running: int, template: Path) -> list[str]:
    core = vllm_on_one_core()["VLLM_CPU_OMP_THREADS_BIND"]
    openmp = {"OMP_NUM_THREADS": "1", "OMP_PLACES": "{" + core + "}", "OMP_PROC_BIND": "true"}  # see decision 0033
    return [
        *(sys.executable, "-c", _LAUNCH, json.dumps(openmp)),
        *("--model", str(MODEL), "--served-model-name", MODEL.name, "--chat-template", str(template)),
        *("--host", LOOPBACK, "--port", str(port), "--disable-uvicorn-access-log"),
        *("--dtype", "float32", "--enforce-eager", "--max-num-seqs", str(num_running)),
        *("--distributed-executor-backend", "vllm.v1.executor.uniproc_executor.UniProcExecutor"),
    ]


def _environment() -> dict[str, str]:
    quiet = {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1"}
    return {**os.environ, **vllm_on_one_core(), **quiet, "TORCHDYNAMO_DISABLE": "1"}


async def _is_there(process: asyncio.subprocess.Process, address: str, log: Path) -> bool:
    """Whether it answers. Raises: RuntimeError when it has ended."""
    if process.returncode is not None:
        said = await asyncio.to_thread(log.read_text)
        raise RuntimeError(f"vLLM's server has ended:\n{said[-2000:]}")
    try:
        await asyncio.to_thread(_read, f"{address}/health")
    except urllib.error.URLError:
        return False
    return True


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Ends the server and its engine core, at the latest after 20 s."""
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def tokens_so_far(address: str) -> int:
    """What vLLM has written since it started, for paths that were given up too."""
    text = await asyncio.to_thread(_read, f"{address}/metrics")
    return generated_tokens(text)


def generated_tokens(metrics: str) -> int:
    """vLLM's counter of tokens that it has written, in its Prometheus text."""
    lines = (line for line in metrics.splitlines() if line.startswith("vllm:generation_tokens_total"))
    return sum(round(float(line.rsplit(" ", 1)[1])) for line in lines)


def _read(address: str) -> str:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return str(answer.read().decode())
