"""Asks the lines of batches, a few at a time. Every gateway has one: a line is claimed by one of them."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import structlog

from conclave.domain.api_keys import Scope
from conclave.errors import LostDependency
from conclave.store.batches import Claimed
from conclave.store.ledger import Limits
from conclave.store.rows import asked_at
from schemas.events import RequestCancelled
from services.gateway import metrics
from services.gateway.access import Caller
from services.gateway.asking import OVER_LIMIT, Asking, Sent, inner_key
from services.gateway.bodies import ChatBody
from services.gateway.chat import question_of_chat
from services.gateway.errors import ApiError
from services.gateway.failures import surviving

_LOOK_S = 1.0
_BROKEN = "the gateway failed at this; its log says why"
_LONGEST_S = 86_400.0  # that a request may take

log = structlog.get_logger(__name__)


class Lines(Protocol):
    """Where lines are claimed: conclave.store.batches.BatchStore. Each raises LostDependency."""

    async def claim(self, max_open: int) -> list[Claimed]: ...
    async def asked(self, claimed: Claimed, request_id: str, asked_at: Any) -> RequestCancelled | None: ...
    async def put_back(self, claimed: Claimed) -> None: ...
    async def refused(self, claimed: Claimed, error: str) -> None: ...


@dataclass(frozen=True, slots=True)
class BatchRunner:
    """See the module's docstring."""

    asking: Asking
    lines: Lines
    max_open: int

    async def run(self, look_s: float = _LOOK_S) -> None:
        """Asks until cancelled."""
        while True:
            try:
                with surviving("batches_broken"):
                    await self.look()
            except LostDependency as error:
                log.info("batches_wait", dependency=error.dependency)
            await asyncio.sleep(look_s)

    async def look(self) -> int:
        """How many lines were asked now. Raises: LostDependency; what was not asked is claimed anew, at once or in a while."""
        lines = await self.lines.claim(self.max_open)
        for number, line in enumerate(lines):
            try:
                await self._ask(line)
            except LostDependency:
                await self._put_back(lines[number:])
                raise
            except Exception as error:  # else it would take every gateway down that claims it, one after the other
                log.exception("line_broken", batch=line.batch_id, line=line.line, error=type(error).__name__)
                await self.lines.refused(line, _BROKEN)
        return len(lines)

    async def _put_back(self, lines: Sequence[Claimed]) -> None:
        with suppress(LostDependency):
            for line in lines:
                await self.lines.put_back(line)

    async def _ask(self, line: Claimed) -> None:
        # The same key whoever asks it: a line that was asked before a crash is the same request after it.
        sent = Sent(inner_key("line", line.batch_id, line.line))
        # How often and how many at once is the batch's own business; what it costs is its tenant's, and whose words are kept.
        caller = Caller(
            line.tenant,
            frozenset({Scope.ASK}),
            limits=Limits(tokens_per_day=line.tokens_per_day),
            is_redacted=line.is_redacted,
            is_kept=line.is_kept,
            most_urgent="batch",
        )
        body = msgspec.convert(line.body, ChatBody)
        try:
            question = question_of_chat(body, deadline_s=min(_LONGEST_S, max(1.0, line.left_s)))
            # Asked again it has less time left, and is the same line.
            whole = msgspec.structs.replace(question, deadline_s=_LONGEST_S)
            request_id = await self.asking.ask(caller, question, sent, told_by=whole)
        except ApiError as error:
            if error.code == OVER_LIMIT:
                await self.lines.put_back(line)
            else:
                await self.lines.refused(line, error.message)
            return
        metrics.LINES_ASKED.inc()
        unwanted = await self.lines.asked(line, request_id, asked_at(request_id))
        if unwanted is not None:
            await self.asking.cancelling.publish_noted([unwanted])
