"""The API as tools of the Model Context Protocol: for the gateway's `/mcp`, and for `conclave mcp` on standard input and output.

Tools call the API like any client, with the key of whoever calls them: what a key may not do, its tools may not.
"""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import httpx2
from anyio import CancelScope, move_on_after
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

GRACE_S = 30.0
_WAIT_S = 20.0  # for each look: progress is told in between
_INSTRUCTIONS = (
    "Conclave answers a question by sampling many reasoning paths and putting their answers to a vote. `ask` gives the answer"
    " with its tally and confidence, `trace` how it came about, `feedback` says what it was worth,"
    " `experiments` what comparisons of policies have shown."
)

_PAUSE_S = 1.0  # before a gateway that is away or busy is asked again
_CANCEL_S = 10.0  # for a gateway to take a cancellation
_FOR_NOW = (429, 502, 503, 504)

ClientOf = Callable[[Context[Any, Any]], httpx2.AsyncClient]


class _ForNow(ToolError):
    """What the gateway may well do later."""


def tool_server(client_of: ClientOf, version: str) -> MCPServer:
    """The tools, over the API that `client_of` knows for a call."""
    server = MCPServer("conclave", instructions=_INSTRUCTIONS, version=version, log_level="ERROR")

    @server.tool()
    async def ask(
        question: str,
        context: Context[Any, Any],
        policy: str | None = None,
        max_samples: int | None = None,
        answer_schema: dict[str, Any] | None = None,
        deadline_s: float = 120.0,
    ) -> dict[str, Any]:
        """Puts a question to the vote and waits for the answer, with its confidence and the tally of all answers.

        `policy` is one of those that `policies` lists; `max_samples` bounds the paths of each step. With `answer_schema`, a JSON
        Schema of an object, the answer is JSON that fits it, voted on property by property.
        """
        body: dict[str, Any] = {
            "question": question,
            "policy": policy,
            "max_samples": max_samples,
            "deadline_s": deadline_s,
        }
        body |= {"answer_schema": answer_schema} if answer_schema is not None else {}
        async with client_of(context) as client:
            with CancelScope(shield=True):  # else nobody would know what to cancel
                taken = await _called(client, "POST", "/v1/requests", json=body)
            try:
                return await _result(client, context, taken["id"], deadline_s)
            except BaseException:  # its client has left or its time is up: nobody will come back for it
                await _cancel(client, taken["id"])
                raise

    @server.tool()
    async def trace(request_id: str, context: Context[Any, Any]) -> dict[str, Any]:
        """How a request came to its answer: its plan, every path with its answer, every step's vote, and the result."""
        async with client_of(context) as client:
            return await _called(client, "GET", f"/v1/requests/{quote(request_id, safe='')}/trace")

    @server.tool()
    async def feedback(
        request_id: str,
        context: Context[Any, Any],
        reward: float | None = None,
        right_answer: str | None = None,
        comment: str | None = None,
        step_index: int | None = None,
        sample_index: int | None = None,
        supersedes: str | None = None,
    ) -> dict[str, Any]:
        """Says what an answer was worth: a reward from 0 (wrong) to 1 (right), the right answer, a comment.

        It is about the request's answer, or about the step and the path of it that are named, as `trace` numbers them. What
        comes back has an `id`; who changes their mind names it as `supersedes`.
        """
        said = {
            "reward": reward, "right_answer": right_answer, "comment": comment, "step_index": step_index,
            "sample_index": sample_index, "supersedes": supersedes,
        }  # fmt: skip
        body = {name: value for name, value in said.items() if value is not None}
        async with client_of(context) as client:
            sent = {**body, "request_id": request_id, "source": "mcp", "rater": "model"}
            return await _called(client, "POST", "/v1/feedback", json=sent)

    @server.tool()
    async def policies(context: Context[Any, Any]) -> dict[str, Any]:
        """The ways of reasoning that `ask` may be told to use."""
        async with client_of(context) as client:
            found = await _called(client, "GET", "/v1/models")
        return {"policies": [model["id"] for model in found["data"]]}

    @server.tool()
    async def experiments(context: Context[Any, Any], name: str | None = None) -> dict[str, Any]:
        """The experiments that compare policies; with `name`, what that one has shown so far: shares, intervals, who is best.

        For administrators' keys.
        """
        async with client_of(context) as client:
            return await _called(client, "GET", "/v1/experiments" + (f"/{quote(name, safe='')}" if name else ""))

    return server


async def _result(
    client: httpx2.AsyncClient, context: Context[Any, Any], request_id: str, deadline_s: float
) -> dict[str, Any]:
    """What comes of a request, however often a gateway is away or busy meanwhile. Raises: ToolError when its time is up."""
    started = time.monotonic()
    while (left_s := deadline_s + GRACE_S + started - time.monotonic()) > 0:
        told = "its gateway is away"
        try:
            wait_s = min(_WAIT_S, left_s)
            state = await _called(client, "GET", f"/v1/requests/{request_id}", params={"wait_s": wait_s})
            if state["result"] is not None:
                return dict(state["result"])
            told = str(state["status"])
        except _ForNow:
            await asyncio.sleep(min(_PAUSE_S, left_s))
        waited_s = time.monotonic() - started
        await context.report_progress(waited_s, deadline_s, f"{told}, {waited_s:.0f} s")
    raise ToolError(f"request {request_id} did not end in time, and was cancelled; `trace` tells how far it came")


async def _cancel(client: httpx2.AsyncClient, request_id: str) -> None:
    """Cancels a request, if the gateway lets itself be told so. Done although who calls was cancelled."""
    with move_on_after(_CANCEL_S, shield=True), suppress(ToolError):
        await _called(client, "POST", f"/v1/requests/{request_id}/cancel")


async def _called(client: httpx2.AsyncClient, method: str, path: str, **sent: Any) -> dict[str, Any]:
    """What the API answers. Raises: ToolError with its words when it refuses, `_ForNow` when it may not do so later."""
    try:
        response = await client.request(method, path, **sent)
        told: dict[str, Any] = response.json()
    except (httpx2.HTTPError, json.JSONDecodeError) as error:
        raise _ForNow(f"the gateway can't be reached: {type(error).__name__}") from None
    if response.is_success:
        return told
    refusal = told.get("error", {})
    at = f" ({refusal['param']})" if refusal.get("param") else ""
    refused = _ForNow if response.status_code in _FOR_NOW else ToolError
    raise refused(f"{refusal.get('message', response.status_code)}{at}")
