"""Masks every text in what a client sends as JSON. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from conclave.domain.redaction import Mask
from services.gateway.errors import ApiError

Names = Callable[[Iterable[str], Mask], dict[str, str]]


def numbered(names: Iterable[str], mask: Mask, *, most: int | None = None) -> dict[str, str]:
    """What each name of an object becomes, in `most` characters: those that are the same once masked are told apart by numbers."""
    found = {name: mask(name)[:most] for name in names}
    taken = {name for name, new in found.items() if new == name}
    numbers = Counter[str]()
    for name, new in found.items():
        if new != name:
            found[name] = _free(new, taken, numbers, most)
            taken.add(found[name])
    return found


def _free(wanted: str, taken: set[str], numbers: Counter[str], most: int | None) -> str:
    """The name, or where it is taken the name and the first number that is free."""
    free = wanted
    while free in taken:
        numbers[wanted] += 1
        number = f" {numbers[wanted] + 1}"
        free = (wanted if most is None else wanted[: most - len(number)]) + number
    return free


def unlike(names: Iterable[str], mask: Mask) -> dict[str, str]:
    """What each name of a schema's object becomes. Raises: ApiError for two that become the same: others refer to them by name."""
    found = {name: mask(name) for name in names}
    if twice := sorted(name for name, times in Counter(found.values()).items() if times > 1):
        message = f"two names in it are the same once they are masked: {twice[0]}"
        raise ApiError(400, message, "invalid_schema", "answer_schema")
    return found


def masked(value: Any, mask: Mask, names: Names = numbered) -> Any:
    """The value with every text in it masked, and what `names` makes of the names of its objects."""
    match value:
        case str():
            return mask(value)
        case list():
            return [masked(each, mask, names) for each in value]
        case dict():
            new = names(value, mask)
            return {new[name]: masked(each, mask, names) for name, each in value.items()}
        case _:
            return value
