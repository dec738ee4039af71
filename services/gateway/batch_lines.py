"""Files of requests, line by line: read, masked, and answered as OpenAI has it. Pure."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from conclave.domain.redaction import Mask
from conclave.domain.structured.answer_schema import written_out
from conclave.errors import Rejected
from conclave.store.batches import Line
from conclave.store.files import lines_in
from services.gateway.bodies import BatchLine
from services.gateway.calls import read
from services.gateway.chat import completion_of, failure_of, question_of_chat
from services.gateway.errors import ApiError
from services.gateway.masking import masked, unlike
from services.gateway.results import of_row

MAX_LINES = 50_000
_TWICE = "another line has this custom_id, as far as it is kept: what looks like a secret is masked in it too"
_SCHEMA = ("body", "response_format", "json_schema", "schema")
_UNASKED = {  # OpenAI's codes, by which its clients know what to send again
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "This request was not executed before its batch was cancelled.",
}


def masked_file(content: bytes, mask: Mask) -> str:
    """The file as it is kept: every text in it masked.

    Raises: ApiError for what is no text, and for a schema that would mean another thing once masked.
    """
    try:
        text = content.decode("utf-8-sig")  # some editors begin a file with a mark
    except UnicodeDecodeError:
        raise ApiError(400, "a file of requests is text in UTF-8", "invalid_file", "file") from None
    if "\0" in text:
        raise ApiError(400, "a NUL is no text", "invalid_file", "file")
    return "\n".join(_masked_line(number, line, mask) for number, line in enumerate(lines_in(text), 1)) + "\n"


def lines_of(content: str) -> list[Line]:
    """What a file asks for, and what is wrong with it, by line. Raises: ApiError for one that asks for nothing, or too much."""
    texts = lines_in(content)
    if not 0 < len(texts) <= MAX_LINES:
        message = f"a batch has 1 to {MAX_LINES:,} lines, this file has {len(texts):,}"
        raise ApiError(400, message, "invalid_file", "input_file_id")
    seen: set[str] = set()
    return [_line(number, text, seen) for number, text in enumerate(texts)]


def told(row: Mapping[str, Any], batch_id: str) -> tuple[bool, dict[str, Any]]:
    """Whether a line that has ended was answered, and the line of an output file that tells so."""
    line: dict[str, Any] = {"id": f"{batch_id}-{row['line']}", "custom_id": row["custom_id"], "error": None}
    if unasked := row.get("unasked"):
        return False, {**line, "response": None, "error": {"code": unasked, "message": _UNASKED[unasked]}}
    if row["error"] is not None:
        return False, {**line, "response": None, "error": {"code": "invalid_request", "message": row["error"]}}
    try:
        result = of_row(dict(row))
    except msgspec.ValidationError:  # another version's: no other line of the file waits for it
        message = "What came of this request can't be read here; its trace may say it."
        return False, {**line, "response": None, "error": {"code": "unreadable", "message": message}}
    if result.answer is None:
        error = failure_of(result)
        status, body = error.status, msgspec.json.decode(error.body)
    else:
        status, body = 200, msgspec.to_builtins(completion_of([result], model=row["body"]["model"]))
    response = {"status_code": status, "request_id": result.request_id, "body": body}
    return result.answer is not None, {**line, "response": response}


def _line(number: int, text: str, seen: set[str]) -> Line:
    try:
        found = read(text.encode(), BatchLine)
        question_of_chat(found.body, deadline_s=1.0)
        if (found.body.n or 1) != 1 or found.body.stream:
            raise ApiError(400, "a line is one choice, and no stream", "invalid_value", "body")
        if _holds_nul(body := msgspec.to_builtins(found.body)):
            raise ApiError(400, "a NUL is no text", "invalid_value", "body")
        if found.custom_id in seen:
            raise ApiError(400, _TWICE, "invalid_value", "custom_id")
    except ApiError as error:
        at = f" ({error.param})" if error.param else ""
        return Line(number, _custom_id(text), error=f"line {number + 1}: {error.message}{at}")
    seen.add(found.custom_id)
    return Line(number, found.custom_id, body=body)


def _custom_id(text: str) -> str:
    """What a wrong line calls itself, if anything."""
    try:
        named = json.loads(text)["custom_id"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    # What this JSON reads may hold what no text may: half a character, or a NUL.
    return named.encode(errors="replace").decode().replace("\0", "")[:256] if isinstance(named, str) else ""


def _holds_nul(value: Any) -> bool:
    """True where some text in it, or some name, has a NUL, which PostgreSQL keeps in no text."""
    match value:
        case str():
            return "\0" in value
        case list() | tuple():
            return any(map(_holds_nul, value))
        case dict():
            return any(map(_holds_nul, (*value, *value.values())))
        case _:
            return False


def _masked_line(number: int, line: str, mask: Mask) -> str:
    """A line of JSON with every text in it masked; any other line masked as a text."""
    try:
        value = msgspec.json.decode(line)
        kept = masked(value, mask)
    except (msgspec.DecodeError, RecursionError):
        return mask(line)
    schema = _at(value, *_SCHEMA)
    if isinstance(schema, dict) and (place := _at(kept, *_SCHEMA[:-1])) is not None:
        place[_SCHEMA[-1]] = _masked_schema(number, schema, mask)
    return msgspec.json.encode(kept).decode()


def _masked_schema(number: int, schema: dict[str, Any], mask: Mask) -> Any:
    """A line's schema, masked; a wrong one stays wrong, for its line alone. Raises: ApiError where it would mean another thing."""
    at = f"line {number}, {'.'.join(_SCHEMA)}"
    try:
        kept = masked(schema, mask, unlike)
    except ApiError as error:
        raise ApiError(400, f"{at}: {error.message}", error.code, "file") from None
    if _written_out(kept, str) != _written_out(schema, mask):
        raise ApiError(
            400, f"{at}: a reference in it is to another definition once it is masked", "invalid_schema", "file"
        )
    return kept


def _written_out(schema: dict[str, Any], mask: Mask) -> Any:
    try:
        return masked(written_out(schema), mask)
    except Rejected:
        return None


def _at(value: Any, *names: str) -> Any:
    """What an object of JSON has under these names, one inside the other; None where it has not."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def output(rows: list[dict[str, Any]], batch_id: str, *, is_for_errors: bool) -> Iterator[bytes]:
    """The lines of a batch's output file, or of its file of errors."""
    for row in rows:
        is_answered, line = told(row, batch_id)
        if is_answered is not is_for_errors:
            yield msgspec.json.encode(line) + b"\n"
