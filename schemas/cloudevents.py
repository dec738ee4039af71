"""CloudEvents in structured mode (JSON event format 1.0): the attributes stand in the value, around `data`.

Read by turning such a record into what it would be in binary mode, so that nothing after this knows of two modes.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from schemas import producers
from schemas.envelope import CONTENT_TYPE, Headers, header, is_own
from schemas.ids import derived_event_id

STRUCTURED_CONTENT_TYPE = "application/cloudevents+json"
_BATCH_CONTENT_TYPE = "application/cloudevents-batch"
_JSON_CONTENT_TYPE = re.compile(r"[^/;]+/(?:json|[^/;]+\+json)(?:\s*;.*)?", re.IGNORECASE)

_CONTENT_TYPE_CHARS = len("content-type")
_BASE64 = "^[A-Za-z0-9+/]*={0,2}$"

# Attributes that become headers; every other one is left where it is.
_ATTRIBUTES = ("specversion", "id", "source", "type", "subject", "time")
_TRACE_CONTEXT = ("traceparent", "tracestate")


class _Data(msgspec.Struct):
    data: msgspec.Raw


def is_structured(headers: Headers, value: bytes | None) -> bool:
    """True for a record whose value is a CloudEvent: its content type says so, or the value does and no header contradicts."""
    if not value or is_own(headers):
        return False
    if _content_type(headers).startswith("application/cloudevents"):
        return True
    # Inside a text the quotes are escaped: only a key or a whole string looks like this.
    return b'"specversion"' in value and header(headers, "ce_specversion") is None and _has_specversion(value)


def binary_mode(headers: Headers, value: bytes) -> tuple[Headers, bytes]:
    """Headers and value of a structured record as they would be in binary mode.

    Raises: msgspec.ValidationError, naming the field; msgspec.DecodeError, UnicodeDecodeError or RecursionError for what is
    no JSON in UTF-8.
    """
    if _content_type(headers).startswith(_BATCH_CONTENT_TYPE):
        raise msgspec.ValidationError("Expected one event in a record, got a batch of CloudEvents")
    document = producers.parse(value)
    if not isinstance(document, dict):
        raise msgspec.ValidationError(f"Expected `object` with `specversion`, got `{type(document).__name__}`")
    if document.get("specversion") != "1.0":
        raise _wrong("specversion", '`"1.0"`', document.get("specversion"))
    attributes = {name: text for name in (*_ATTRIBUTES, *_TRACE_CONTEXT) if (text := _text(document, name)) is not None}
    return _with_attributes(headers, attributes), _payload(document, value)


def attribute_headers(headers: Headers, value: bytes | None) -> Headers:
    """The headers that hold a record's attributes, whatever its mode; what can't be read is left out."""
    if value is None or not is_structured(headers, value):
        return headers
    try:
        document = msgspec.json.decode(value.removeprefix(producers.BYTE_ORDER_MARK))
    except (ValueError, RecursionError):
        return headers
    if not isinstance(document, dict):
        return headers
    return _with_attributes(headers, {name: text for name, text in document.items() if isinstance(text, str)})


def idempotency_key(headers: Headers) -> str | None:
    """What recognises an event that is published twice: a digest of its source and id; None when one of them is missing."""
    source, event_id = header(headers, "ce_source"), header(headers, "ce_id")
    return f"cloudevent:{derived_event_id(source, event_id, '', 0)}" if source and event_id else None


def structured_schema(schema: dict[str, Any], types: Iterable[str]) -> dict[str, Any]:
    """The JSON Schema of an event in structured mode, from the schema of the event itself."""
    text = {"anyOf": [{"type": "string", "minLength": 1}, {"type": "null"}]}
    properties: dict[str, Any] = dict.fromkeys((*_ATTRIBUTES, *_TRACE_CONTEXT), text)
    properties["specversion"] = {"const": "1.0"}
    properties["type"] = {"enum": [*types, None]}
    json_only = {"type": "string", "pattern": r"^[^/;]+/([jJ][sS][oO][nN]|[^/;]+\+[jJ][sS][oO][nN])(\s*;.*)?$"}
    properties["datacontenttype"] = {"anyOf": [json_only, {"type": "null"}]}
    base64_json = {"type": "string", "contentEncoding": "base64", "contentMediaType": CONTENT_TYPE, "pattern": _BASE64}
    return {
        **{name: value for name, value in schema.items() if name != "$ref"},
        "description": f"A CloudEvent in structured mode: content-type {STRUCTURED_CONTENT_TYPE}.",
        "type": "object",
        "properties": properties,
        "required": ["specversion"],
        "oneOf": [
            {"required": ["data"], "properties": {"data": {"$ref": schema["$ref"]}, "data_base64": {"type": "null"}}},
            {"required": ["data_base64"], "properties": {"data_base64": base64_json, "data": {"type": "null"}}},
        ],
    }


def _content_type(headers: Headers) -> str:
    written = ""
    for name, _ in headers:
        if len(name) == _CONTENT_TYPE_CHARS and name.lower() == "content-type":
            written = name
    return (header(headers, written) or "").lower() if written else ""


def _with_attributes(headers: Headers, attributes: Mapping[str, str]) -> Headers:
    given = {f"ce_{name}": attributes[name] for name in _ATTRIBUTES if attributes.get(name)}
    given |= {name: attributes[name] for name in _TRACE_CONTEXT if attributes.get(name)}
    given["content-type"] = CONTENT_TYPE
    kept = tuple(pair for pair in headers if pair[0].lower() not in given)
    return kept + tuple((name, text.encode()) for name, text in given.items())


def _has_specversion(value: bytes) -> bool:
    try:
        document = producers.parse(value)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "specversion" in document


def _text(document: dict[str, Any], name: str) -> str | None:
    value = document.get(name)
    if value is not None and not (isinstance(value, str) and value):
        raise _wrong(name, "`str` of at least one character", value)
    return value


def _payload(document: dict[str, Any], value: bytes) -> bytes:
    content_type, encoded = _text(document, "datacontenttype"), document.get("data_base64")
    if content_type is not None and _JSON_CONTENT_TYPE.fullmatch(content_type) is None:
        raise _wrong("datacontenttype", f'`"{CONTENT_TYPE}"`', content_type)
    if encoded is None:
        if document.get("data") is None:
            raise _wrong("data", "`object`", None)
        return bytes(msgspec.json.decode(value.removeprefix(producers.BYTE_ORDER_MARK), type=_Data).data)
    if document.get("data") is not None:
        raise msgspec.ValidationError("Expected `data` or `data_base64`, got both - at `$.data_base64`")
    try:
        return base64.b64decode(encoded, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise _wrong("data_base64", "base64", encoded) from None


def _wrong(name: str, expected: str, got: object) -> msgspec.ValidationError:
    shown = msgspec.json.encode(got).decode()[:100].replace("`", "?")
    return msgspec.ValidationError(f"Expected {expected}, got `{shown}` - at `$.{name}`")
