"""Masks what should not be kept: what a pattern finds, and a checksum confirms where there is one. Pure, in linear time.

Every pattern is meant to leave arithmetic alone: a question's numbers are what it is about. So a telephone number counts only
in its international form, a card only with a right check digit, and an IBAN only with right check digits.

A masked text holds `[EMAIL]` and the like. What is masked is gone: nothing here remembers it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import re2

Check = Callable[[str], bool]
Mask = Callable[[str], str]


def is_card(text: str) -> bool:
    """True for 13 to 19 digits with a right check digit (ISO/IEC 7812-1, annex B), not all of them the same."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [digit if place % 2 == 0 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(reversed(digits))]
    return 13 <= len(digits) <= 19 and sum(doubled) % 10 == 0 and len(set(digits)) > 1


def is_iban(text: str) -> bool:
    """True for 15 to 34 characters with right check digits (ISO 13616-1: modulo 97)."""
    compact = text.replace(" ", "")
    as_number = "".join(str(int(character, 36)) for character in compact[4:] + compact[:4])
    return 15 <= len(compact) <= 34 and int(as_number) % 97 == 1


def is_phone(text: str) -> bool:
    """True for 8 to 15 digits (E.164)."""
    return 8 <= sum(character.isdigit() for character in text) <= 15


@dataclass(frozen=True, slots=True)
class Masked:
    """One kind of thing that is masked: found by `pattern`, or its group `secret`; confirmed by `check`; shown as `[label]`."""

    pattern: str
    label: str
    check: Check = lambda found: True


# In the order in which they are tried: what holds another (a key in a URL with a password) comes first.
# fmt: off
MASKS: dict[str, Masked] = {
    "private_key": Masked(
        r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?s:.)*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\z)", "PRIVATE_KEY"),
    "token": Masked(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}", "TOKEN"),
    "api_key": Masked(
        r"\b(?:sk-[A-Za-z0-9_-]{16,}|cnv_[a-z2-7]{13}_[A-Za-z0-9_-]{43}|(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_[A-Za-z0-9]{30,}"
        r"|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{20,}|xox[abeprs]-[A-Za-z0-9-]{10,}|AIza[A-Za-z0-9_-]{35}"
        r"|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{30,}|(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{16,})",
        "API_KEY"),
    "bearer": Masked(r"(?i)\bbearer\s+[A-Za-z0-9._~+/-]{16,}=*", "TOKEN"),
    "password": Masked(
        r"""(?i)\b(?:password|passwd|pwd|secret|api[_-]?key|access[_-]?token)["']?\s{0,4}[:=]\s{0,4}["']?"""
        r"""(?P<secret>[^\s"',;()\[\]{}]{6,200})""", "SECRET"),
    "url_password": Masked(r"\b[A-Za-z][A-Za-z0-9+.-]{1,30}://[^\s/:@]{1,200}:(?P<secret>[^\s/@]{1,200})@", "SECRET"),
    "email": Masked(
        r"[A-Za-z0-9._%+'-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}\b", "EMAIL"),
    "iban": Masked(r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", "IBAN", is_iban),
    "card": Masked(
        r"\b(?:[2-6][0-9]{12,18}|[2-6][0-9]{3}(?: [0-9]{4}){3}|[2-6][0-9]{3}(?:-[0-9]{4}){3}"
        r"|3[0-9]{3} [0-9]{6} [0-9]{4,5}|3[0-9]{3}-[0-9]{6}-[0-9]{4,5})\b", "CARD", is_card),
    "phone": Masked(r"(?:^|[^0-9A-Za-z)\]}.+])(?P<secret>\+[0-9](?:[ ().-]{0,2}[0-9]){7,14})\b", "PHONE", is_phone),
    "us_ssn": Masked(r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b", "SSN"),
    "ip_address": Masked(
        r"\b(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\b", "IP_ADDRESS"),
}
# fmt: on
# These look like differences and versions, which questions are about.
_NOT_BY_DEFAULT = ("us_ssn", "ip_address")
DEFAULT_MASKS = tuple(name for name in MASKS if name not in _NOT_BY_DEFAULT)


@dataclass(frozen=True, slots=True)
class Span:
    """Characters that somebody else has found: from `start` on, before `end`, of what kind, and how sure that is (0..1)."""

    start: int
    end: int
    label: str
    score: float


def without(text: str, spans: Iterable[Span]) -> str:
    """The text with `[label]` for each span; of spans that overlap, the surest gives the label, and all of them goes."""
    parts: list[str] = []
    done = 0
    for group in _overlapping(spans):
        surest = max(group, key=lambda span: (span.score, span.end - span.start, span.label))
        parts += [text[done : group[0].start], f"[{surest.label}]"]
        done = max(span.end for span in group)
    return "".join([*parts, text[done:]])


def _overlapping(spans: Iterable[Span]) -> list[list[Span]]:
    """Spans in order, those together that overlap; empty ones are none."""
    groups: list[list[Span]] = []
    end = 0
    for span in sorted((span for span in spans if span.start < span.end), key=lambda span: (span.start, span.end)):
        if groups and span.start < end:
            groups[-1].append(span)
        else:
            groups.append([span])
        end = max(end, span.end)
    return groups


def masker(names: Iterable[str] = DEFAULT_MASKS) -> Mask:
    """What masks these kinds in a text. Raises: KeyError for a name that is none."""
    wanted = set(names)
    if unknown := wanted - set(MASKS):
        raise KeyError(", ".join(sorted(unknown)))
    rows = [(re2.compile(mask.pattern), mask) for name, mask in MASKS.items() if name in wanted]

    def masked(text: str) -> str:
        for pattern, mask in rows:
            text = _masked(text, pattern, mask)
        return text

    return masked


def _masked(text: str, pattern: Any, mask: Masked) -> str:
    """The text without what one row finds. What is found and not confirmed may begin another, so the search goes on in it."""
    group = pattern.groupindex.get("secret", 0)
    parts: list[str] = []
    done = place = 0
    while (found := pattern.search(text, place)) is not None:
        start, end = found.span(group)
        confirmed = _confirmed(text[start:end], mask.check)
        if confirmed == 0:
            place = start + 1
            continue
        parts += [text[done:start], f"[{mask.label}]"]
        done = place = start + confirmed
    return "".join([*parts, text[done:]])


def _confirmed(found: str, check: Check) -> int:
    """How much of what was found is confirmed: all of it, or what stands before a space. 0: none."""
    ends = [len(found), *(place for place in range(len(found) - 1, 0, -1) if found[place] == " ")]
    return next((end for end in ends if check(found[:end])), 0)
