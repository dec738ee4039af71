"""Text that somebody else has written, so that a person may look at it: control characters are spelled out. Pure."""

import unicodedata


def printable(text: str) -> str:
    """`text` with control characters spelled out: models and producers write it, and a terminal would obey it."""
    return "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs")
        else _spelled(character)
        for character in text
    )


def readable(value: bytes | None) -> str:
    """Bytes of anyone's as text: what is no UTF-8, or no printable character, is spelled out."""
    return "(none)" if value is None else printable(value.decode("utf-8", "backslashreplace"))


def in_one_line(text: str) -> str:
    """`text` as `printable` has it, with white space made single spaces."""
    return printable(" ".join(text.split()))


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode()
