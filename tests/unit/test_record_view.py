"""Lists over a record that goes on while they are read."""

from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

from conclave.store.listing import Key
from conclave.store.reader import Reader
from conclave.store.rows import asked_at
from conclave.store.view import RecordView
from schemas.ids import new_request_id

ID = str(new_request_id())


class Going:
    """A record that knows nothing of a request when its line is read, and its votes and rewards when they are."""

    async def rows(self, query: str, values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        is_later = "AS strip" in query or "AS reward" in query
        return [{"request_id": UUID(ID), "strip": "wo", "reward": 1.0}] if is_later else []


async def test_a_request_that_is_recorded_while_a_list_is_read_is_in_the_next_one() -> None:
    view = RecordView(cast(Reader, Going()))
    assert await view.lines([Key(asked_at(ID), ID)]) == ()
