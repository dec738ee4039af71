"""Masks every text in what a client sends as JSON. Pure."""

from typing import Any

from conclave.domain.redaction import Mask


def masked(value: Any, mask: Mask) -> Any:
    """The value with every text in it masked, names of objects too."""
    match value:
        case str():
            return mask(value)
        case list():
            return [masked(each, mask) for each in value]
        case dict():
            return {mask(name): masked(each, mask) for name, each in value.items()}
        case _:
            return value
