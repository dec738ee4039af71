"""Asks a gateway as a client should that wants its answer: what fails is sent again, under the same idempotency key."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from benchmarks.load.driving import End, Put, Refused

_AGAIN_S, _AGAIN_MOST_S = 0.5, 5.0
_WAIT_S = 20  # of a look at a request that runs


class OverHttp:
    """Calls one gateway. Every call that is not answered as it should be is noted, and made again."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http
        self.refused: list[Refused] = []

    async def ask(self, put: Put, question: str, policy: str | None) -> End:
        """The end of a question. Accepted is what the gateway has given an id."""
        body = {"question": question} if policy is None else {"question": question, "policy": policy}
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        taken = await self._persistent("POST", "/v1/requests", json=body, headers=headers)
        put.request_id, put.accepted = str(taken["id"]), time.time()
        while True:
            state = await self._persistent("GET", f"/v1/requests/{put.request_id}", params={"wait_s": _WAIT_S})
            result = state.get("result")
            if result is not None:
                return End(result["status"] == "answered", result["num_paths"], result["tokens_out"])

    async def _persistent(self, method: str, path: str, **sent: Any) -> dict[str, Any]:
        while True:
            again_s = _AGAIN_S
            try:
                response = await self._http.request(method, path, **sent)
                if response.is_success:
                    answer: dict[str, Any] = response.json()
                    return answer
                kind = str(response.status_code)
                again_s = max(again_s, float(response.headers.get("retry-after", 0)))
            except httpx2.TransportError as error:
                kind = type(error).__name__
            self.refused.append(Refused(time.time(), kind))
            await asyncio.sleep(min(again_s, _AGAIN_MOST_S))


@asynccontextmanager
async def over_http(url: str) -> AsyncIterator[OverHttp]:
    """A way that is open while it is used, with as many connections as there are clients."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    timeout = httpx2.Timeout(_WAIT_S + 40, pool=None)
    async with httpx2.AsyncClient(base_url=url, timeout=timeout, limits=limits) as http:
        yield OverHttp(http)
