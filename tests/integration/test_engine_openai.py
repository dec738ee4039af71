"""The OpenAI-compatible engine against a real vLLM server with the shipped model."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from conclave.engine import ENGINES, EngineOptions
from conclave.engine.protocol import DecodeRequest, Engine, PromptTooLong
from conclave.local.machine.ports import free_port
from conclave.prompts import Message
from conclave.testing.waiting import until_async

CONTEXT = 65_536
MODEL = Path(__file__).resolve().parents[2] / "models" / "reasoner"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def endless_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model, told neither what ends a path nor where its context does: each goes on to its `max_tokens`."""
    folder = tmp_path_factory.mktemp("model") / "endless"
    shutil.copytree(MODEL, folder)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        settings = json.loads((folder / name).read_text())
        settings["eos_token" if name.startswith("tokenizer") else "eos_token_id"] = None
        if name == "config.json":
            settings["max_position_embeddings"] = CONTEXT
        (folder / name).write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, endless_model: Path) -> Iterator[str]:
    """The address of a running server."""
    port, log = free_port(), tmp_path_factory.mktemp("serve") / "log"
    settings = {
        "VLLM_CPU_OMP_THREADS_BIND": str((os.cpu_count() or 1) - 1),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "TORCHDYNAMO_DISABLE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(endless_model), "--port", str(port),
        "--host", "127.0.0.1",
        "--served-model-name", "reasoner", "--dtype", "float32", "--enforce-eager", "--max-num-seqs", "8",
        "--stream-interval", "64",  # a model this small decodes faster than the server's front sends a chunk a token
    ]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env={**os.environ, **settings}, stdout=out, stderr=out, start_new_session=True
        )
        try:
            deadline = time.monotonic() + 300
            while not _answers(f"http://127.0.0.1:{port}/health"):
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, f"no server within 300 s, see {log}"
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@pytest.fixture
async def engine(server: str) -> AsyncIterator[Engine]:
    """An engine on the server."""
    engine = ENGINES["openai"](EngineOptions(model="reasoner", openai_base_url=f"{server}/v1"))
    await engine.start()
    yield engine
    await engine.stop()


def _request(text: str, *, max_tokens: int = 40) -> DecodeRequest:
    return DecodeRequest("s", (Message("user", f"{text}\nThink step by step."),), max_tokens=max_tokens)


async def test_a_path_from_a_server_has_text_and_figures(engine: Engine) -> None:
    decoded = await engine.decode(_request("Tom has 12 apples. Tom buys 7 more. How many apples does Tom have now?"))
    assert decoded.text
    assert decoded.tokens_in is not None
    assert decoded.tokens_out is not None
    assert decoded.tokens_in > 10
    assert 0 < decoded.tokens_out <= 40
    assert decoded.mean_logprob is not None
    assert decoded.min_logprob is not None
    assert decoded.min_logprob <= decoded.mean_logprob <= 0
    assert len(decoded.token_logprobs) == len(decoded.token_texts) == decoded.tokens_out
    assert decoded.text in "".join(decoded.token_texts).replace("<|end|>", "")  # which is a token, and no text
    assert 0 < decoded.first_token_ms <= decoded.total_ms


async def test_a_prompt_too_long_for_the_server_is_named_as_such(engine: Engine) -> None:
    with pytest.raises(PromptTooLong) as caught:
        await engine.decode(_request("apples " * CONTEXT))
    assert caught.value.limit == CONTEXT


async def test_cancelled_paths_are_aborted_on_the_server(engine: Engine, server: str) -> None:
    before = await _total(server, "request_success_total")
    # Decoded to their ends, these paths would take minutes, whatever else the machine does.
    rambling = [_request(f"Ann has {i} coins.", max_tokens=CONTEXT - 1000) for i in range(3)]
    tasks = [asyncio.create_task(engine.decode(each)) for each in rambling]
    await until_async(lambda: _is_decoding(server), limit_s=120, what="a path that is decoded")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await until_async(lambda: _is_idle(server), limit_s=120, what="an idle server")
    finished = await _total(server, "request_success_total", but='finished_reason="abort"') - before
    assert all(task.cancelled() for task in tasks), [task for task in tasks if not task.cancelled()]
    assert finished == 0, "paths that nobody waits for were decoded to their end"


async def _is_decoding(server: str) -> bool:
    return await _total(server, "num_requests_running") > 0


async def _is_idle(server: str) -> bool:
    return await _total(server, "num_requests_running") + await _total(server, "num_requests_waiting") == 0


async def _total(server: str, metric: str, *, but: str = "no label") -> float:
    """The sum of a metric of vLLM's over its labels, those with `but` left out."""

    def read() -> float:
        with urllib.request.urlopen(f"{server}/metrics", timeout=60) as response:
            text = response.read().decode()
        samples = re.findall(rf"^vllm:{metric}(\{{.*\}}) (\S+)$", text, re.MULTILINE)
        assert samples, f"the server has no {metric}"
        return sum(float(value) for labels, value in samples if but not in labels)

    return await asyncio.to_thread(read)
