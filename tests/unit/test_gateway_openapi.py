"""The API is what its OpenAPI document says, whatever is sent to it.

CONCLAVE_API_CASES says how many cases are sent in all: `make fuzz-api` sends 10,000.
"""

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from schemas.ids import new_request_id
from services.gateway import openapi
from tests.gateway_in_memory import World, answering

DOCUMENT = openapi.document(World().routes(), "0")
ROUTES = World().routes()
CASES = int(os.environ.get("CONCLAVE_API_CASES", "0"))
# Some routes take so little that they have fewer cases than their share; the others make up for it.
EXAMPLES_A_ROUTE = max(8, 2 * CASES // len(ROUTES))
SENT: Counter[str] = Counter()
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
schema = schemathesis.openapi.from_dict(DOCUMENT)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A gateway that answers at once, in a thread of its own."""
    world, stop, is_up = World(answering("36")), asyncio.Event(), threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        async with world.serving():
            loops.append(asyncio.get_running_loop())
            is_up.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert is_up.wait(20)
    yield world.url
    loops[0].call_soon_threadsafe(stop.set)
    thread.join()


@schema.parametrize()
@settings(max_examples=EXAMPLES_A_ROUTE, suppress_health_check=list(HealthCheck))
def test_whatever_is_sent_the_answer_is_one_that_the_document_knows(case: Any, url: str) -> None:
    SENT[f"{case.method} {case.path}"] += 1
    case.call_and_validate(base_url=url, checks=CHECKS)


@pytest.mark.skipif(not CASES, reason="counts what `make fuzz-api` has sent")
def test_as_many_cases_were_sent_as_were_asked_for() -> None:
    print(*(f"{number:>6}  {route}" for route, number in sorted(SENT.items())), sep="\n")
    assert SENT.total() >= CASES
    # Beside those of each route, ways to call it that the document does not know are tried, which are refused.
    assert {f"{route.method} {route.path}" for route in ROUTES} <= SENT.keys()


def test_every_reference_of_the_document_leads_somewhere() -> None:
    known = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}

    def references(part: Any) -> Iterator[str]:
        if isinstance(part, dict):
            yield from ([part["$ref"]] if "$ref" in part else [])
            for each in part.values():
                yield from references(each)
        elif isinstance(part, list):
            for each in part:
                yield from references(each)

    assert set(references(DOCUMENT)) <= known
    assert set(DOCUMENT["paths"]) == {row.path for row in World().routes()}


@pytest.mark.parametrize(
    ("path", "name", "bounds"),
    [
        ("/v1/batches", "limit", (1, 100)),
        ("/v1/files", "limit", (1, 10_000)),
        ("/v1/requests/{request_id}", "wait_s", (0, 300)),
    ],
)
def test_the_document_gives_each_parameter_the_bounds_that_hold(
    path: str, name: str, bounds: tuple[float, float], url: str
) -> None:
    (parameter,) = (each for each in DOCUMENT["paths"][path]["get"]["parameters"] if each["name"] == name)
    low, high = parameter["schema"]["minimum"], parameter["schema"]["maximum"]
    assert (low, high) == bounds
    filled = path.format(request_id=new_request_id())
    assert httpx2.get(f"{url}{filled}", params={name: high}).status_code in (200, 404)
    for beyond in (low - 1, high + 1):
        refused = httpx2.get(f"{url}{filled}", params={name: beyond})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, name)


def test_the_document_knows_that_a_stream_may_have_nothing_more_to_tell(url: str) -> None:
    request_id = httpx2.post(f"{url}/v1/requests", json={"question": "?"}).json()["id"]
    told = httpx2.get(f"{url}/v1/requests/{request_id}/events", headers={"Last-Event-ID": "end"})
    operation = DOCUMENT["paths"]["/v1/requests/{request_id}/events"]["get"]
    assert "content" not in operation["responses"][str(told.status_code)]
    assert "Last-Event-ID" in {each["name"] for each in operation["parameters"] if each["in"] == "header"}
