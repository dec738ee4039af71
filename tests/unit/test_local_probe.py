"""What a process says over HTTP, asked once for everyone: whatever is answered, the question is not an error."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from conclave.local import probe
from conclave.local.machine.ports import LOOPBACK, free_port


@asynccontextmanager
async def _answering(answer: bytes | None) -> AsyncIterator[str]:
    """The URL of a server that answers everything so; without an answer, it stays silent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            await reader.read()  # until the other side gives up
        else:
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    async with server:
        yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\n{}", 200, "{}"),
        (b"HTTP/1.1 503 Service Unavailable\r\nX: 1\r\n\r\n{\"away\": [\"kafka\"]}", 503, '{"away": ["kafka"]}'),
        (b"HTTP/1.0 404\r\n\r\n", 404, ""),
        (b"200 bottles", None, "what was answered is not HTTP"),
        (b"", None, "what was answered is not HTTP"),
        (b"\xff\xfe\r\n\r\n", None, "what was answered is not HTTP"),
    ],
)  # fmt: skip
async def test_readiness_is_a_200_and_anything_else_says_why_not(answer: bytes, status: int | None, body: str) -> None:
    async with _answering(answer) as url:
        assert await probe.readiness(url) == probe.Answer(status, body)
        assert (await probe.readiness(url)).is_good == (status == 200)


async def test_a_process_that_is_gone_or_silent_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_ANSWER_TIMEOUT_S", 0.05)
    async with _answering(None) as url:
        assert "no answer" in (await probe.readiness(url)).body
    assert "refused" in (await probe.readiness(f"http://{LOOPBACK}:{free_port()}")).body.lower()


async def test_lag_is_the_sum_over_partitions_and_unknown_where_it_is_not_said() -> None:
    metrics = b'# TYPE conclave_lag gauge\nconclave_lag{p="0"} 3\nconclave_lag{p="1"} 4\n# TYPE x gauge\nx 9\n'
    async with _answering(b"HTTP/1.0 200 OK\r\n\r\n" + metrics) as url:
        assert await probe.lag(url) == 7
    async with _answering(b"HTTP/1.0 200 OK\r\n\r\n# TYPE x gauge\nx 9\n") as url:
        assert await probe.lag(url) is None
    assert await probe.lag(f"http://{LOOPBACK}:{free_port()}") is None
