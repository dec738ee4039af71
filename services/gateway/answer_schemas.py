"""The JSON Schema that a client wants its answer to fit: taken at the gateway's door already, where it may be mended at once."""

from collections.abc import Mapping
from typing import Any

import msgspec

from conclave.domain.redaction import Mask
from conclave.domain.structured.answer_schema import accepted, read, written_out
from conclave.errors import Rejected
from services.gateway.bodies import JsonObjectFormat, JsonSchemaFormat, TextFormat
from services.gateway.errors import ApiError
from services.gateway.masking import masked, unlike

ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
_AT = "$.answer_schema"


def taken(document: Mapping[str, Any], *, at: str) -> dict[str, Any]:
    """The schema as it travels, references written out; `at` says where it was sent. Raises: ApiError with the part at fault."""
    try:
        whole: dict[str, Any] = msgspec.json.decode(accepted(document))
    except Rejected as error:
        raise _refused(error, at) from None
    return whole


def _refused(error: Rejected, at: str) -> ApiError:
    message = f"expected {error.expected}, got {error.got}"
    return ApiError(400, message, "invalid_schema", error.field.replace(_AT, at, 1))


def taken_masked(document: Mapping[str, Any], mask: Mask, *, at: str) -> dict[str, Any]:
    """The schema as `taken`, with every text in it masked. Raises: ApiError, also where two names in it are the same then.

    References are written out before: those to two definitions may be the same once they are masked.
    """
    try:
        whole = written_out(document)
    except Rejected as error:
        raise _refused(error, at) from None
    return taken(masked(whole, mask, unlike), at=at)


def of_format(wanted: TextFormat | JsonObjectFormat | JsonSchemaFormat | None) -> dict[str, Any] | None:
    """The schema that a chat's `response_format` asks for; None for text. Raises: ApiError."""
    match wanted:
        case JsonObjectFormat():
            return dict(ANY_OBJECT)
        case JsonSchemaFormat(json_schema=named):
            return taken(named.schema, at="response_format.json_schema.schema")
        case _:
            return None


def fits(answer: str, schema: Mapping[str, Any] | None) -> bool:
    """True for an answer that a schema as `taken` allows, and for any where there is none."""
    return schema is None or read(answer, msgspec.json.encode(schema).decode()) is not None
