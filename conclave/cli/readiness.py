"""What services say of themselves at /ready, in a line that a person can act on; the commands that wait show it meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from conclave.cli.endpoints import Endpoints
from conclave.cli.output import in_one_line
from conclave.local import probe

_EVERY_S = 1.0
_DECODER = "decoder"


async def not_ready(url: str) -> str | None:
    """Why the service at `url` is not ready; None when it is."""
    answer = await probe.readiness(url)
    return None if answer.is_good else f"not ready at {url}: {_why(answer.body)}"


def _why(body: str) -> str:
    """What is away and why, of the JSON that /ready gives; else that, as it is."""
    try:
        why = json.loads(body).get("why")
    except (ValueError, AttributeError):
        why = None
    if isinstance(why, dict) and why:
        return "; ".join(f"{name}: {reason}" for name, reason in why.items())
    return body[:500]


@dataclass
class Shown:
    """What has been shown last: why nothing is decoded, None when it is."""

    reason: str | None = None


@asynccontextmanager
async def showing_trouble(found: Endpoints, show: Callable[[str], None]) -> AsyncIterator[Shown]:
    """Shows, as long as it is open, why nothing is decoded: each reason once. Knows nothing of decoders elsewhere."""
    shown = Shown()
    url = found.http.get(_DECODER)
    if url is None:
        yield shown
        return
    watch = asyncio.create_task(_watch(url, shown, show), name="watch the decoder")
    try:
        yield shown
    finally:
        watch.cancel()


async def _watch(url: str, shown: Shown, show: Callable[[str], None]) -> None:
    while True:
        reason = await not_ready(url)
        if reason != shown.reason:
            show(in_one_line(f"the decoder is {reason}" if reason else "the decoder is ready again"))
            shown.reason = reason
        await asyncio.sleep(_EVERY_S)
