"""Who may do what: every route × no key, a wrong key, another tenant's, the right one's, an administrator's."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import httpx2
import pytest
from starlette.routing import BaseRoute, Mount, Route

from conclave.domain.api_keys import ID_BYTES, SECRET_BYTES, ApiKey, Pass, Scope
from conclave.store.ledger import Limits
from services.gateway.access import is_loopback
from tests.gateway_in_memory import World, answering

QUESTION = {"question": "What is 6 times 6?"}
CHAT = {"model": "conclave", "messages": [{"role": "user", "content": "What is 6 times 6?"}]}
# What each route answers to: no key, a wrong key, another tenant's, the right tenant's without the scope, with it, an admin's.
MATRIX = {
    ("POST", "/v1/requests"): (401, 401, 202, 403, 202, 202),
    ("GET", "/v1/requests/{request_id}"): (401, 401, 404, 403, 200, 200),
    ("GET", "/v1/requests/{request_id}/result"): (401, 401, 404, 403, 200, 200),
    ("GET", "/v1/requests/{request_id}/trace"): (401, 401, 404, 403, 200, 200),
    ("POST", "/v1/requests/{request_id}/cancel"): (401, 401, 404, 403, 200, 200),
    ("GET", "/v1/requests/{request_id}/events"): (401, 401, 404, 403, 200, 200),
    ("POST", "/v1/feedback"): (401, 401, 404, 403, 202, 202),
    ("POST", "/v1/chat/completions"): (401, 401, 200, 403, 200, 200),
    ("GET", "/v1/models"): (401, 401, 200, 403, 200, 200),
    ("GET", "/v1/models/{model}"): (401, 401, 200, 403, 200, 200),
    ("POST", "/v1/files"): (401, 401, 200, 403, 200, 200),
    ("GET", "/v1/files"): (401, 401, 200, 403, 200, 200),
    ("DELETE", "/v1/files/{file_id}"): (401, 401, 404, 403, 200, 404),  # the admin comes last, when it is gone
    ("GET", "/v1/files/{file_id}"): (401, 401, 404, 403, 200, 200),
    ("GET", "/v1/files/{file_id}/content"): (401, 401, 404, 403, 200, 200),
    ("POST", "/v1/batches"): (401, 401, 404, 403, 200, 200),
    ("GET", "/v1/batches"): (401, 401, 200, 403, 200, 200),
    ("GET", "/v1/batches/{batch_id}"): (401, 401, 404, 403, 200, 200),
    ("POST", "/v1/batches/{batch_id}/cancel"): (401, 401, 404, 403, 200, 200),
    ("GET", "/v1/experiments"): (401, 401, 403, 403, 403, 200),
    ("GET", "/v1/experiments/{name}"): (401, 401, 403, 403, 403, 200),
}
LINE = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": CHAT}
FILE = {"file": ("a.jsonl", json.dumps(LINE).encode())}


def _bearer(key: ApiKey | str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key if isinstance(key, str) else key.text}"}


async def _called(
    client: httpx2.AsyncClient, method: str, path: str, ids: dict[str, str], headers: dict[str, str]
) -> int:
    if (method, path) == ("POST", "/v1/files"):
        return (await client.post(path, data={"purpose": "batch"}, files=FILE, headers=headers)).status_code
    body = {
        "/v1/batches": {"input_file_id": ids["file_id"], "endpoint": LINE["url"], "completion_window": "1h"},
        "/v1/requests": QUESTION,
        "/v1/feedback": {"request_id": ids["request_id"], "reward": 1},
        "/v1/chat/completions": CHAT,
    }.get(path if method == "POST" else "")
    path = path.format(**ids, model="default", name="sure-or-plain")
    return (await client.request(method, path, json=body, headers=headers)).status_code


async def test_the_matrix_of_every_route_and_every_kind_of_caller_holds() -> None:
    world = World(answering("36"))
    own, other = (world.accounts.add(tenant, Scope.ASK, Scope.FEEDBACK) for tenant in ("ours", "theirs"))
    admin = world.accounts.add("ops", Scope.ADMIN)
    lacking = {
        Scope.ASK: world.accounts.add("ours", Scope.FEEDBACK),
        Scope.FEEDBACK: world.accounts.add("ours", Scope.ASK),
        Scope.ADMIN: world.accounts.add("ours", Scope.ASK, Scope.FEEDBACK),
    }
    wrong = ApiKey(own.key_id, other.secret)
    async with world.serving() as client:
        assert {(row.method, row.path) for row in world.routes()} == set(MATRIX), "a route without a row of the matrix"
        request_id = (await client.post("/v1/requests", json=QUESTION, headers=_bearer(own))).json()["id"]
        form: Any = {"data": {"purpose": "batch"}, "files": FILE}
        file_id = (await client.post("/v1/files", **form, headers=_bearer(own))).json()["id"]
        wanted = {"input_file_id": file_id, "endpoint": LINE["url"], "completion_window": "1h"}
        batch_id = (await client.post("/v1/batches", json=wanted, headers=_bearer(own))).json()["id"]
        ids = {"request_id": request_id, "file_id": file_id, "batch_id": batch_id}
        for row in sorted(world.routes(), key=lambda row: row.method == "DELETE"):  # what is there is there until then
            nobody: dict[str, str] = {}
            callers = (
                nobody,
                _bearer(wrong),
                _bearer(other),
                _bearer(lacking[row.scope]),
                _bearer(own),
                _bearer(admin),
            )
            found = [await _called(client, row.method, row.path, ids, headers) for headers in callers]
            assert tuple(found) == MATRIX[row.method, row.path], f"{row.method} {row.path}"


# What needs no key: the door itself, what describes the API, and files that are the same for everyone.
OPEN = {
    ("GET", "/openapi.json"): 200,
    ("GET", "/sign-in"): 200,
    ("POST", "/sign-in"): 401,
    ("POST", "/sign-out"): 303,
    ("GET", "/static/no-such-file"): 404,
}
# Pages that a tenant's key opens, too: of its own requests. The record is away here, so what reaches it says 503.
OF_A_TENANT = {
    ("GET", "/"): 303,
    ("GET", "/requests"): 503,
    ("GET", "/requests/{request_id}"): 404,  # "x" is no id
    ("GET", "/requests/{request_id}.json"): 404,
    ("GET", "/requests/{request_id}/body"): 404,
    ("GET", "/compare"): 503,
}
TOOLS = ("GET", "/mcp"), ("POST", "/mcp"), ("DELETE", "/mcp")


def _routes(routes: Sequence[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every method and path of an application's routing table."""
    for route in routes:
        if isinstance(route, Mount) and route.name != "static":
            yield from _routes(route.routes, prefix + route.path)
        elif isinstance(route, Mount):
            yield "GET", f"{prefix}{route.path}/no-such-file"
        else:
            assert isinstance(route, Route), f"a route of a kind that the matrix does not know: {route}"
            methods = {"GET", "POST", "DELETE"} if route.methods is None else route.methods - {"HEAD"}
            yield from ((method, prefix + route.path) for method in sorted(methods))


def _filled(path: str) -> str:
    """A page's path with something in each place of it."""
    parts = ["x" if part.startswith("{") else part for part in path.split("/")]
    return "/".join(parts)


async def test_no_route_of_the_application_is_open_but_those_that_are_to_be() -> None:
    world = World(answering("36"))
    own, admin = world.accounts.add("ours", Scope.ASK, Scope.FEEDBACK), world.accounts.add("ops", Scope.ADMIN)
    lacking, wrong = world.accounts.add("ours", Scope.FEEDBACK), ApiKey(own.key_id, admin.secret)
    async with world.serving() as client:
        assert world.app is not None
        found = set(_routes(world.app.routes)) - set(MATRIX)
        assert set(OPEN) | set(TOOLS) <= found
        not_taken = {(method, path) for method, path in found if path.startswith("/v1/")}
        pages = found - set(OPEN) - set(TOOLS) - not_taken
        assert set(OF_A_TENANT) <= pages
        assert {("GET", "/"), ("POST", "/ask"), ("GET", "/requests/{request_id}"), ("POST", "/fork")} <= pages
        for (method, path), expected in OPEN.items():
            assert (await client.request(method, path)).status_code == expected, f"{method} {path}"
        for method, path in sorted(pages):
            of_own = OF_A_TENANT.get((method, path), 403)
            for headers, expected in (
                ({}, 401),
                (_bearer(wrong), 401),
                (_bearer(own), of_own),
                (_bearer(lacking), 403),
            ):
                answer = await client.request(method, _filled(path), headers=headers, follow_redirects=False)
                assert answer.status_code == expected, f"{method} {path}"
            for headers in (_bearer(admin), world.signed_in(admin)):
                headers |= {"Sec-Fetch-Site": "same-origin"}
                async with client.stream(method, _filled(path), headers=headers) as answer:  # a page may go on
                    assert answer.status_code not in (401, 403, 500), f"{method} {path}"
        for method, path in sorted(not_taken):
            for headers, expected in (({}, 401), (_bearer(wrong), 401), (_bearer(lacking), 405), (_bearer(own), 405)):
                assert (await client.request(method, path, headers=headers)).status_code == expected, f"{method} {path}"
        for method, path in TOOLS:
            for headers, expected in (({}, 401), (_bearer(wrong), 401), (_bearer(lacking), 403)):
                assert (await client.request(method, path, headers=headers)).status_code == expected, f"{method} {path}"


async def test_a_cookie_that_another_site_has_sent_does_nothing() -> None:
    world = World(answering("36"))
    admin = world.accounts.add("ops", Scope.ADMIN)
    cookie = world.signed_in(admin)
    async with world.serving() as client:
        own = str(client.base_url).rstrip("/")
        # A page on another port of this machine is of the same site: SameSite=Strict lets the cookie through.
        for foreign in (
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "http://127.0.0.1:1"},
            {"Sec-Fetch-Site": "cross-site"},
        ):
            refused = await client.post("/v1/requests", json=QUESTION, headers={**cookie, **foreign})
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_from_here"), foreign
        assert world.published == []
        taken = await client.post("/v1/requests", json=QUESTION, headers={**cookie, "Origin": own})
        assert taken.status_code == 202
        as_program = await client.post(
            "/v1/requests", json=QUESTION, headers={**_bearer(admin), "Origin": "https://x.example"}
        )
        assert as_program.status_code == 202, "who holds a key may send from anywhere"


async def test_a_key_that_is_no_key_or_unknown_is_refused_once_there_are_keys() -> None:
    world = World()
    world.accounts.add("ours", Scope.ASK)
    unknown = ApiKey.of(b"\xff" * (ID_BYTES + SECRET_BYTES))
    async with world.serving() as client:
        for sent in ("nonsense", unknown.text, "cnv_", "x" * 10_000):
            refused = await client.get("/v1/models", headers=_bearer(sent))
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            assert sent not in refused.text
        assert (await client.get("/openapi.json")).status_code == 200


async def test_a_key_may_come_in_a_header_of_its_own() -> None:
    world = World()
    key = world.accounts.add("ours", Scope.ASK)
    async with world.serving() as client:
        assert (await client.get("/v1/models", headers={"X-Api-Key": key.text})).status_code == 200


async def test_without_any_key_this_machine_is_served_and_nobody_whom_another_site_sends() -> None:
    async with World().serving() as client:
        assert (await client.get("/v1/models")).status_code == 200
        assert (await client.get("/v1/models", headers=_bearer("none"))).status_code == 200
        own = str(client.base_url).rstrip("/")
        assert (await client.get("/v1/models", headers={"Origin": own, "Sec-Fetch-Site": "same-origin"})).is_success
        for headers in (
            {"Host": "evil.example"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"X-Forwarded-For": "203.0.113.7"},
        ):
            refused = await client.post("/v1/requests", json=QUESTION, headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_local"), headers


async def test_a_gateway_that_others_reach_serves_nobody_without_a_key() -> None:
    async with World(host="0.0.0.0").serving() as client:
        refused = await client.get("/v1/models")
        assert refused.status_code == 401
        assert "conclave keys create" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("[::1]", True), ("localhost", True), ("a.localhost", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("evil.example", False), ("localhost.evil.example", False),
     ("", False)],
)  # fmt: skip
def test_a_host_is_the_machine_itself_or_not(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


async def test_tenants_with_one_idempotency_key_have_two_requests() -> None:
    world = World()
    keys = [world.accounts.add(tenant, Scope.ASK) for tenant in ("ours", "theirs")]
    async with world.serving() as client:
        ids = {
            (await client.post("/v1/requests", json=QUESTION, headers={**_bearer(key), "Idempotency-Key": "k"})).json()[
                "id"
            ]
            for key in keys
        }
    assert len(ids) == 2
    assert {event.tags["tenant"] for event in world.published} == {"ours", "theirs"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(("limits", "after"), [(Limits(rate_per_minute=2), "12"), (Limits(max_open=2), "2")])
async def test_a_tenant_beyond_its_limit_is_told_when_to_come_back(limits: Limits, after: str) -> None:
    world = World()
    key, other = world.accounts.add("ours", Scope.ASK, limits=limits), world.accounts.add("theirs", Scope.ASK)
    async with world.serving() as client:
        statuses = [
            (await client.post("/v1/requests", json=QUESTION, headers=_bearer(key))).status_code for _ in range(2)
        ]
        refused = await client.post("/v1/requests", json=QUESTION, headers=_bearer(key))
        assert statuses == [202, 202]
        assert (refused.status_code, refused.headers["retry-after"]) == (429, after)
        assert refused.json()["error"]["code"] == "over_limit"
        assert (await client.post("/v1/requests", json=QUESTION, headers=_bearer(other))).status_code == 202
    assert len(world.published) == 3


async def test_a_tenant_whose_budget_is_spent_is_told_when_some_is_free_again() -> None:
    world = World()
    world.ledger.spent = lambda tenant: 900 if tenant == "ours" else 0
    limits = Limits(tokens_per_day=900)
    key, other = (world.accounts.add(tenant, Scope.ASK, limits=limits) for tenant in ("ours", "theirs"))
    async with world.serving() as client:
        refused = await client.post("/v1/requests", json=QUESTION, headers=_bearer(key))
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "3600")
        assert refused.json()["error"]["message"] == "this tenant may have 900 generated tokens in 24 hours"
        assert (await client.post("/v1/requests", json=QUESTION, headers=_bearer(other))).status_code == 202


def test_a_key_is_read_back_and_no_other_text_is_one() -> None:
    key = ApiKey.of(bytes(range(ID_BYTES + SECRET_BYTES)))
    assert ApiKey.parsed(key.text) == key
    assert key.is_of(key.digest)
    assert not ApiKey(key.key_id, key.secret[::-1]).is_of(key.digest)
    assert key.secret not in repr(key)
    for text in ("", key.text[:-1], key.text + "x", key.text.upper(), f" {key.text}"):
        assert ApiKey.parsed(text) is None
    with pytest.raises(ValueError, match="40 random bytes"):
        ApiKey.of(b"x")


def test_a_pass_is_read_back_and_is_no_key() -> None:
    held = Pass.of(bytes(range(SECRET_BYTES)))
    assert Pass.parsed(held.secret) == held
    assert held.digest != Pass.of(bytes(SECRET_BYTES)).digest
    assert held.secret not in repr(held)
    key = ApiKey.of(bytes(range(ID_BYTES + SECRET_BYTES)))
    for text in ("", held.secret[:-1], held.secret + "x", f" {held.secret}", key.text):
        assert Pass.parsed(text) is None
    assert ApiKey.parsed(held.secret) is None
    with pytest.raises(ValueError, match="32 random bytes"):
        Pass.of(b"x")
