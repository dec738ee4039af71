"""The OpenAPI document of the API's table."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from services.gateway.files import PURPOSES
from services.gateway.routes import ApiRoute

_PARAMETER = re.compile(r"{(\w+)}")
_REFERENCES = "#/components/schemas/{name}"
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
                "conclave": {"$ref": "#/components/schemas/ChatExtension"},
            },
        }
    },
}


def document(table: Sequence[ApiRoute], version: str) -> dict[str, Any]:
    """OpenAPI 3.1, made from the table and the types that it names."""
    types = [each for row in table for each in (row.body, row.answers) if each is not None]
    _, schemas = msgspec.json.schema_components(types, ref_template=_REFERENCES)
    paths: dict[str, dict[str, Any]] = {}
    for row in table:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Conclave", "version": version, "description": "Questions in, voted answers out."},
        "paths": paths,
        "components": {
            "schemas": schemas | {"Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _operation(row: ApiRoute) -> dict[str, Any]:
    error = {"content": {"application/json": {"schema": _ref("Error")}}}
    operation: dict[str, Any] = {
        "operationId": f"{row.method.lower()}_{re.sub(r'[^a-z]+', '_', row.path).strip('_')}",
        "summary": row.summary,
        "description": f"Needs the scope `{row.scope.value}`.",
        "parameters": _parameters(row),
        "responses": {
            **{
                str(status): {"description": row.summary, "content": _content(row)}
                for status in (row.status, *row.otherwise)
            },
            **{str(status): {"description": "There is nothing more to tell"} for status in row.bare},
            "4XX": {"description": "The client's mistake, or a limit", **error},
            "5XX": {"description": "The gateway's mistake, or something that it stands on is away", **error},
        },
    }
    if row.body is not None:
        schema = {"schema": _ref(row.body.__name__)}
        operation["requestBody"] = {"required": True, "content": {"application/json": schema}}
    if row.sends_file:
        form = {
            "type": "object",
            "required": ["file", "purpose"],
            "properties": {
                "file": {"type": "string", "format": "binary"},
                "purpose": {"type": "string", "enum": list(PURPOSES)},
            },
        }
        operation["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": form}}}
    return operation


def _content(row: ApiRoute) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if row.answers is not None:
        content["application/json"] = {"schema": _ref(row.answers.__name__)}
    if row.sends_lines:
        content["application/jsonl"] = {"schema": {"type": "string"}}
    if row.streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    return content


def _parameters(row: ApiRoute) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(row.path)
    ]
    found += [{"name": each.name, "in": "query", "schema": dict(each.schema)} for each in row.query]
    found += [{"name": name, "in": "header", "schema": {"type": "string"}} for name in row.headers]
    if row.is_idempotent:
        key = {"type": "string", "pattern": "^[!-~]{1,256}$"}
        found.append({"name": "Idempotency-Key", "in": "header", "schema": key})
    return found


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
