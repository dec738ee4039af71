"""The pages' door: open to everyone on this machine while there are no keys, then to administrators only."""

from conclave.domain.api_keys import Scope
from tests.gateway_in_memory import World

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
    asking, admin = world.accounts.add("ours", Scope.ASK), world.accounts.add("ops", Scope.ADMIN)
    async with world.serving() as client:
        door = await client.get("/requests")
        assert door.status_code == 401
        assert '<form method="post" action="/sign-in">' in door.text
        for path in ("/", "/live", "/requests", "/compare", "/no-such-page", "/requests/x"):
            assert (await client.get(path)).status_code == 401, path
            headers = {"Authorization": f"Bearer {asking.text}"}
            assert (await client.get(path, headers=headers)).status_code == 403, path
        assert (await client.get("/static/no-such-file")).status_code == 404
        for wrong in ("", "nonsense", asking.text, admin.text[:-1]):
            refused = await client.post("/sign-in", data={"key": wrong})
            assert refused.status_code == 401
            assert not refused.cookies
        let_in = await client.post("/sign-in", data={"key": admin.text})
        assert let_in.status_code == 303
        cookie = let_in.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert (await client.get("/requests")).status_code == REACHED
        await client.post("/sign-out")
        assert (await client.get("/requests")).status_code == 401


async def test_a_text_in_the_door_is_never_html() -> None:
    world = World()
    world.accounts.add("ops", Scope.ADMIN)
    async with world.serving() as client:
        refused = await client.post("/sign-in", data={"key": "<script>alert(1)</script>"})
        assert "alert(1)" not in refused.text
