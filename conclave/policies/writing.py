"""A policy as the file that it would be read from."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec.structs import fields, replace

from schemas.values import Policy


def as_toml(policy: Policy, about: str) -> str:
    """The text of a policy's file: what it says beyond the defaults, without what a file doesn't give.

    That is name and digest, and the words of asks, which are those of their forms.
    """
    lines = [f"about = {_value(about)}"]
    plain = _said(policy)
    for name, value in plain.items():
        if name not in ("name", "digest", "asks", "budget"):
            lines.append(f"{name} = {_value(value)}")
    for name, ask in policy.asks.items():
        lines += ["", f"[asks.{name}]", *_lines(_said(replace(ask, wording=msgspec.UNSET)))]
    if budget := _said(policy.budget):
        lines += ["", "[budget]", *_lines(budget)]
    return "\n".join(lines) + "\n"


def _said(struct: msgspec.Struct) -> dict[str, Any]:
    """The fields that are not as they would be anyway."""
    said = {}
    for field in fields(struct):
        value = getattr(struct, field.name)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if value != default:
            said[field.name] = msgspec.to_builtins(value)
    return said


def _lines(said: Mapping[str, Any]) -> Iterator[str]:
    return (f"{name} = {_value(value)}" for name, value in said.items())


def _value(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "{ " + ", ".join(f"{json.dumps(name)} = {_value(each)}" for name, each in value.items()) + " }"
        case list() | tuple():
            return "[" + ", ".join(map(_value, value)) + "]"
        case str():
            return json.dumps(value)  # a basic string of TOML escapes as JSON does
        case _:
            return repr(value)
