"""What a service process says of itself over HTTP. The supervisor, `conclave check` and the test pipeline all ask here."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

_ANSWER_TIMEOUT_S = 3.0
_OK = 200
LAG = "conclave_lag"


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered; without a status, no answer came and `body` says why."""

    status: int | None
    body: str

    @property
    def is_good(self) -> bool:
        """True for a 200."""
        return self.status == _OK


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value at /metrics."""

    name: str
    labels: Mapping[str, str]
    value: float


async def readiness(url: str) -> Answer:
    """What the process at `url` says on /ready: good once it is ready, else why it is not."""
    return await _get(url, "/ready")


async def lag(url: str) -> int | None:
    """The records the process at `url` has still to read, None where it does not say."""
    values = [figure.value for figure in await figures(url) if figure.name == LAG]
    return int(sum(values)) if values else None


async def figures(url: str) -> list[Figure]:
    """What the process at `url` measures of itself; nothing where it does not answer."""
    answer = await _get(url, "/metrics")
    if not answer.is_good:
        return []
    from prometheus_client.parser import (
        text_string_to_metric_families,  # slow to import, and readiness needs none of it
    )

    families = text_string_to_metric_families(answer.body)
    return [Figure(each.name, each.labels, each.value) for family in families for each in family.samples]


async def _get(url: str, path: str) -> Answer:
    """The answer to a GET of `path`, within a limit."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode())
                head, _, body = (await reader.read()).decode(errors="replace").partition("\r\n\r\n")
            finally:
                writer.close()
    except TimeoutError:
        return Answer(None, f"no answer within {_ANSWER_TIMEOUT_S:.0f} s")
    except OSError as error:
        return Answer(None, os.strerror(error.errno) if error.errno else str(error))
    _, _, status = head.partition("\r\n")[0].partition(" ")
    return Answer(int(status[:3]), body) if status[:3].isdigit() else Answer(None, "what was answered is not HTTP")
