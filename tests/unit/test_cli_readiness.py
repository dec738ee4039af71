"""Whoever waits for an answer learns at once why nothing is decoded."""

import json

from conclave.cli.endpoints import Endpoints
from conclave.cli.readiness import not_ready, showing_trouble
from conclave.testing.waiting import until
from tests.misbehaving_server import GOOD, MisbehavingServer, http

WHY = {"ready": False, "away": ["engine"], "why": {"engine": "look at CONCLAVE_MODEL: 404 no model `m`"}}


async def test_the_reason_is_shown_once_and_so_is_its_end() -> None:
    decoder = MisbehavingServer([http(503, json.dumps(WHY)), http(503, json.dumps(WHY)), http(200, "{}")])
    await decoder.start()
    shown: list[str] = []
    async with showing_trouble(_endpoints(decoder), shown.append) as trouble:
        await until(lambda: len(shown) == 1, limit_s=10)
        assert "engine: look at CONCLAVE_MODEL: 404 no model `m`" in shown[0]
        await until(lambda: trouble.reason is not None, limit_s=10)
        await until(lambda: trouble.reason is None, limit_s=10)
    assert shown[1] == "the decoder is ready again"
    await decoder.stop()


async def test_nothing_is_shown_of_a_decoder_that_is_not_known_here() -> None:
    async with showing_trouble(Endpoints("localhost:1", None, {}), lambda line: None) as trouble:
        assert trouble.reason is None


async def test_what_is_not_ready_for_another_reason_says_so_in_its_own_words() -> None:
    server = MisbehavingServer([http(503, '{"starting": true}'), http(503, "busy"), GOOD])
    await server.start()
    url = f"http://127.0.0.1:{server.port}"
    said = [await not_ready(url) for _ in range(3)]
    assert '{"starting": true}' in str(said[0])
    assert "busy" in str(said[1])
    assert said[2] is None
    await server.stop()
    assert "refused" in str(await not_ready(url))


def _endpoints(decoder: MisbehavingServer) -> Endpoints:
    return Endpoints("localhost:1", None, {"decoder": f"http://127.0.0.1:{decoder.port}"})
