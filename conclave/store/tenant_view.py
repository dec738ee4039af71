"""The record as a tenant's pages read it: what the tenant itself asked through a gateway, and nothing else.

Every question here names the tenant. Whose a request is, the gateway's ledger says, as it does for row-level security.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from conclave.store.listing import Filter, Key
from conclave.store.reader import Reader
from conclave.store.trace import RequestLine, Story
from conclave.store.view import Page, RecordView

_OWN = "SELECT request_id FROM gateway_requests WHERE tenant = :tenant AND request_id = ANY(:ids)"
_CHOICES = """
    SELECT array_agg(DISTINCT a.policy) AS policy, array_agg(DISTINCT a.arm) AS arm
    FROM (SELECT asked_at, request_id FROM gateway_requests WHERE tenant = :tenant
          ORDER BY asked_at DESC, request_id DESC LIMIT 1000) g
    JOIN answers a ON a.asked_at = g.asked_at AND a.request_id = g.request_id"""
_OF_OTHERS_TOO = ("correlation",)  # what is recorded of a policy, whoever asked


class TenantView:
    """See the module's docstring. Every method raises LostDependency while Postgres is away."""

    def __init__(self, reader: Reader, tenant: str) -> None:
        assert tenant, "no tenant is no filter"
        self._reader, self._view, self._tenant = reader, RecordView(reader), tenant

    async def owns(self, request_id: str) -> bool:
        """True for a request that the tenant asked, recorded or still to be."""
        return request_id in await self._own([request_id])

    async def requests(self, wanted: Filter, *, before: Key | None = None, limit: int = 50) -> Page:
        """The latest requests of the tenant's that the filter asks for, whatever tenant it names."""
        return await self._view.requests(replace(wanted, tenant=self._tenant), before=before, limit=limit)

    async def story(self, request_id: str) -> Story | None:
        """All of a request; None when nothing is recorded of it, or it is another's."""
        return await self._view.story(request_id) if await self.owns(request_id) else None

    async def raw(self, request_id: str) -> dict[str, list[dict[str, Any]]]:
        """All that is recorded of a request of the tenant's; of another's nothing."""
        if not await self.owns(request_id):
            return {}
        found = await self._view.raw(request_id)
        return {name: rows for name, rows in found.items() if name not in _OF_OTHERS_TOO}

    async def lines(self, keys: Sequence[Key]) -> tuple[RequestLine, ...]:
        """The lines of those of these requests that are the tenant's, in their order."""
        own = await self._own([key.request_id for key in keys])
        return await self._view.lines([key for key in keys if key.request_id in own])

    async def choices(self) -> Mapping[str, tuple[str, ...]]:
        """What lists may be filtered by: the names of `policy` and `arm` of the tenant's latest thousand requests."""
        (row,) = await self._reader.rows(_CHOICES, {"tenant": self._tenant})
        named = {name: tuple(sorted(each for each in row[name] or () if each)) for name in ("policy", "arm")}
        return {**named, "tenant": ()}

    async def _own(self, request_ids: Sequence[str]) -> frozenset[str]:
        values = {"tenant": self._tenant, "ids": [UUID(each) for each in request_ids]}
        return frozenset(str(row["request_id"]) for row in await self._reader.rows(_OWN, values))
