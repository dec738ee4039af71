"""The pages' door: open to this machine while there are no keys, then to administrators, and to tenants for their own."""

from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, Router
from starlette.testclient import TestClient

from conclave.domain.api_keys import SECRET_BYTES, Pass, Scope
from conclave.testing import events as made
from services.gateway import access
from services.gateway.access import COOKIE
from services.gateway.pages import routes_over
from services.gateway.signing_in import PagesGuard, signing_in
from tests.gateway_in_memory import MemoryAccounts, MemorySignIns, World
from tests.memory_view import MemoryFigures, MemoryTrials, MemoryView
from tests.pages_in_memory import assert_is_sound, topics

# The record is away in these tests: a page that is reached says so.
REACHED = 503


async def test_the_pages_are_open_while_there_are_no_keys_to_this_machine_only() -> None:
    async with World().serving() as client:
        assert (await client.get("/requests")).status_code == REACHED
        assert (await client.get("/requests", headers={"Host": "evil.example"})).status_code == 403
    async with World(host="0.0.0.0").serving() as client:
        assert (await client.get("/requests")).status_code == 401


async def test_once_there_are_keys_an_administrator_signs_in() -> None:
    world = World()
    saying, admin = world.accounts.add("ours", Scope.FEEDBACK), world.accounts.add("ops", Scope.ADMIN)
    async with world.serving() as client:
        door = await client.get("/requests")
        assert door.status_code == 401
        assert '<form method="post" action="/sign-in">' in door.text
        for path in ("/", "/live", "/requests", "/compare", "/no-such-page", "/requests/x"):
            assert (await client.get(path)).status_code == 401, path
            headers = {"Authorization": f"Bearer {saying.text}"}
            assert (await client.get(path, headers=headers)).status_code == 403, path
        assert (await client.get("/static/no-such-file")).status_code == 404
        for wrong in ("", "nonsense", saying.text, admin.text[:-1]):
            refused = await client.post("/sign-in", data={"key": wrong})
            assert refused.status_code == 401
            assert not refused.cookies
        let_in = await client.post("/sign-in", data={"key": admin.text})
        assert let_in.status_code == 303
        cookie = let_in.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert admin.secret not in cookie
        assert admin.key_id not in cookie
        assert (await client.get("/requests")).status_code == REACHED
        kept = {"Cookie": cookie.partition(";")[0]}
        await client.post("/sign-out")
        assert (await client.get("/requests")).status_code == 401
        assert (await client.get("/requests", headers=kept)).status_code == 401, "what was kept aside opens nothing"


async def test_nothing_but_what_was_given_at_signing_in_is_a_pass() -> None:
    world = World()
    admin = world.accounts.add("ops", Scope.ADMIN)
    held = world.signed_in(admin)["Cookie"]
    async with world.serving() as client:
        assert (await client.get("/requests", headers={"Cookie": held})).status_code == REACHED
        for wrong in (
            held[:-1],
            held + "A",
            f"{COOKIE}={admin.text}",
            f"{COOKIE}={Pass.of(bytes(SECRET_BYTES - 1) + b'1').secret}",
        ):
            refused = await client.get("/requests", headers={"Cookie": wrong})
            assert (refused.status_code, "not signed in any more" in refused.text) == (401, True), wrong
        bearer = {"Authorization": f"Bearer {held.partition('=')[2]}"}
        assert (await client.get("/v1/models", headers=bearer)).status_code == 401, "a pass is no key"


async def test_a_browser_that_signs_in_again_holds_one_pass() -> None:
    world = World()
    admin = world.accounts.add("ops", Scope.ADMIN)
    async with world.serving() as client:
        for _ in range(2):
            assert (await client.post("/sign-in", data={"key": admin.text})).status_code == 303
        assert (await client.get("/requests")).status_code == REACHED
    assert list(world.sign_ins.keys.values()) == [admin.key_id]


async def test_who_signed_in_by_a_key_that_is_revoked_is_signed_in_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_REMEMBERED_S", -1.0)
    world = World()
    admin, _ = world.accounts.add("ops", Scope.ADMIN), world.accounts.add("other", Scope.ADMIN)
    async with world.serving() as client:
        assert (await client.post("/sign-in", data={"key": admin.text})).status_code == 303
        assert (await client.get("/requests")).status_code == REACHED
        del world.accounts.accounts[admin.key_id]
        assert (await client.get("/requests")).status_code == 401


async def test_who_has_signed_in_is_offered_to_sign_out_and_nobody_else(view: MemoryView) -> None:
    accounts, sign_ins = MemoryAccounts(), MemorySignIns()
    admin = accounts.add("ops", Scope.ADMIN)
    door = access.Access(accounts, sign_ins, host="127.0.0.1")
    pages = Router(routes_over(view, MemoryFigures(view), None, topics=topics, trials=MemoryTrials(), desk=None))
    site = Starlette(routes=[*signing_in(door, "auto"), Mount("/", PagesGuard(pages, door))])
    with TestClient(site, base_url="http://127.0.0.1", follow_redirects=False) as client:
        by_key = client.get("/requests", headers={"Authorization": f"Bearer {admin.text}"})
        assert (by_key.status_code, "/sign-out" in by_key.text) == (200, False)
        client.post("/sign-in", data={"key": admin.text})
        page = client.get("/requests")
        assert '<form method="post" action="/sign-out"><button' in page.text
        assert_is_sound(page.text)
        assert client.post("/sign-out").headers["location"] == "/sign-in"
        assert client.get("/requests").status_code == 401


@pytest.mark.parametrize(
    ("setting", "headers", "is_secure"),
    [
        ("auto", {}, False),  # http://127.0.0.1: not every browser would take it for safe
        ("auto", {"Host": "localhost:8642"}, False),
        ("auto", {"Host": "conclave.example"}, True),
        ("auto", {"Host": "localhost", "X-Forwarded-Proto": "https"}, True),
        ("always", {}, True),
        ("never", {"Host": "conclave.example"}, False),
    ],
)
async def test_the_cookie_travels_over_tls_only_wherever_the_address_is_not_this_machines(
    setting: str, headers: dict[str, str], is_secure: bool
) -> None:
    world = World(settings={"gateway_secure_cookie": setting})
    admin = world.accounts.add("ops", Scope.ADMIN)
    headers = {**headers, "Sec-Fetch-Site": "same-origin"}
    async with world.serving() as client:
        let_in = await client.post("/sign-in", data={"key": admin.text}, headers=headers)
        assert let_in.status_code == 303
        left = await client.post("/sign-out", headers=headers)
    for cookie in (let_in.headers["set-cookie"], left.headers["set-cookie"]):
        assert ("; Secure" in cookie) is is_secure


async def test_whose_browser_will_not_keep_the_key_is_told_so() -> None:
    world = World()
    admin = world.accounts.add("ops", Scope.ADMIN)
    async with world.serving() as client:
        over_http = {"Host": "conclave.example"}  # browsers add Sec-Fetch-Site over TLS only
        told = await client.post("/sign-in", data={"key": admin.text}, headers=over_http)
    assert "Open it over https" in told.text
    assert admin.text not in told.text


async def test_a_page_that_is_there_already_is_sent_to_the_door_and_gets_none_of_it_into_itself() -> None:
    world = World()
    asking = world.accounts.add("ours", Scope.ASK)
    async with world.serving() as client:
        for headers, status in (({}, 401), ({"Authorization": f"Bearer {asking.text}"}, 403)):
            answer = await client.get("/system/log", headers={**headers, "HX-Request": "true"})
            assert (answer.status_code, answer.text) == (status, "")
            assert answer.headers["hx-redirect"] == "/sign-in"


async def test_a_tenant_signs_in_to_the_pages_of_its_own_requests_and_to_no_other() -> None:
    world = World()
    asking = world.accounts.add("ours", Scope.ASK)
    async with world.serving() as client:
        let_in = await client.post("/sign-in", data={"key": asking.text})
        assert let_in.status_code == 303
        assert (await client.get("/")).headers["location"] == "/requests"
        for path in ("/requests", f"/requests/{made.REQUEST_ID}", f"/requests/{made.REQUEST_ID}.json"):
            assert (await client.get(path)).status_code == REACHED, path
        for path in ("/live", "/quality", "/experiments", "/review", "/system", "/system/log", "/system/dead-letters"):
            assert (await client.get(path)).status_code == 403, path
        for path in ("/ask", "/feedback", "/fork", "/review/claim", "/system/dead-letters/replay", "/requests"):
            headers = {"Sec-Fetch-Site": "same-origin"}
            assert (await client.post(path, data={"question": "2+2?"}, headers=headers)).status_code == 403, path
    assert world.published == []


async def test_a_text_in_the_door_is_never_html() -> None:
    world = World()
    world.accounts.add("ops", Scope.ADMIN)
    async with world.serving() as client:
        refused = await client.post("/sign-in", data={"key": "<script>alert(1)</script>"})
        assert "alert(1)" not in refused.text


async def test_a_form_of_another_site_signs_nobody_in_or_out() -> None:
    world = World()
    admin = world.accounts.add("ops", Scope.ADMIN)
    foreign = {"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"}
    async with world.serving() as client:
        held = world.signed_in(admin)
        for path, form in (("/sign-in", {"key": admin.text}), ("/sign-out", {})):
            refused = await client.post(path, data=form, headers={**held, **foreign})
            assert (refused.status_code, refused.headers.get("set-cookie")) == (403, None)
        assert (await client.get("/", headers=held)).status_code == REACHED


async def test_the_door_s_form_comes_with_its_origin() -> None:
    async with World().serving() as client:
        assert (await client.get("/sign-in")).headers["referrer-policy"] == "same-origin"


async def test_a_page_that_is_sent_too_much_says_so() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b"question=" + b"x" * 1024 + b"&"

    async with World(settings={"gateway_max_body_bytes": 2048}).serving() as client:
        form = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
        told = await client.post("/ask", content=pieces(), headers=form)
    assert (told.status_code, told.json()["error"]["code"]) == (413, "body_too_large")
