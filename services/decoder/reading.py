"""What counts in a turn that was decoded."""

import asyncio
from collections.abc import Mapping
from typing import assert_never

from msgspec.structs import replace

from conclave.engine.protocol import Decoded
from conclave.prompts import Form, Reading
from schemas.values import FinishReason
from services.decoder.handing_on import storable

MAX_ANSWER_CHARS = 4096
_MAX_CHARS_AT_ONCE = 4_096  # read within a few milliseconds, whatever they are


async def reading_of(
    form: Form, decoded: Decoded, so_far: str = "", fields: Mapping[str, str] | None = None
) -> Reading:
    """What counts in all of what was decoded: of a text that came to its end, or of one that was cut what is certainly whole.

    A long text is read in a thread, so that it stalls nobody.
    """
    match decoded.finish_reason:
        case FinishReason.STOP | FinishReason.LENGTH:
            is_cut = decoded.finish_reason is FinishReason.LENGTH
        case FinishReason.TOOL_CALLS | FinishReason.CONTENT_FILTER | FinishReason.ABORT | FinishReason.NONE:
            return Reading(None, None)
        case _:
            assert_never(decoded.finish_reason)
    if len(so_far) + len(decoded.text) <= _MAX_CHARS_AT_ONCE:
        reading = form.read(decoded.text, so_far, is_cut=is_cut, fields=fields)
    else:
        reading = await asyncio.to_thread(form.read, decoded.text, so_far, is_cut=is_cut, fields=fields)
    answer, call = reading.answer, None if is_cut or reading.call is None else reading.call
    if call is not None:
        call = replace(call, argument=storable(call.argument))
    if answer is not None:
        answer = storable(answer) if len(answer) <= MAX_ANSWER_CHARS else None
    return Reading(answer, call, is_declined=reading.is_declined)
