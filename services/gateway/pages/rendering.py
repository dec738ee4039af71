"""How pages are put down: templates that escape all text, what numbers and times look like, and the headers that every page has.

A page needs nothing but itself: scripts, styles and fonts come from /static, nothing is inline, and nothing that a model or a
user wrote can become markup (the templates escape, and the policy of CSP leaves no script to run if they did not).
"""

import difflib
import math
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from services.gateway.access import Caller

STATIC = Path(__file__).parent / "static"
_TEMPLATES = Path(__file__).parent / "templates"

# Besides those of services.gateway.headers. Under its `no-referrer` forms would come without their origin.
HEADERS = {"Referrer-Policy": "same-origin", "Vary": "HX-Request"}
_MAX_STEPS = 2_000_000  # of a comparison: a few tenths of a second


def _digest_of_static() -> str:
    """Changes with any static file, so that browsers may keep them for ever."""
    files = sorted(path for path in STATIC.rglob("*") if path.is_file())
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


STATIC_VERSION = _digest_of_static()


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page, or a part of one, with the headers that all have."""
    body = fragment(request, template, **values)
    return HTMLResponse(body, status_code=status, headers=HEADERS)


def is_part(request: Request) -> bool:
    """True for a request that htmx makes: what comes back goes into a page that is there already."""
    return request.headers.get("hx-request") == "true"


def problem(request: Request, status: int, title: str, message: str) -> HTMLResponse:
    """A page that says what is wrong, or the same words for a page that is there already."""
    template = "wrong.html" if is_part(request) else "problem.html"
    return render(request, template, status=status, title=title, message=message)


def fragment(request: Request, template: str, **values: Any) -> str:
    """A template as text. `root` is where the pages are mounted, before each of their own addresses.

    Who has signed in, as the door before the pages notes it, is offered to sign out.
    """
    root = request.scope.get("root_path", "").rstrip("/")
    caller = getattr(request.state, "caller", None)
    values["sees_all"] = not isinstance(caller, Caller) or caller.is_admin
    return _ENVIRONMENT.get_template(template).render(
        root=root,
        path=request.url.path.removeprefix(root),
        is_signed_in=request.scope.get("is_signed_in", False),
        version=STATIC_VERSION,
        now=datetime.now(UTC),
        **values,
    )


def in_one_line(text: object) -> str:
    """A text without line breaks, control characters, or signs that turn the direction of what follows."""
    line = " ".join(str(text).split())
    return "".join(each for each in line if unicodedata.category(each) not in ("Cc", "Cf") or each == "\u200d")


def duration(milliseconds: float | None) -> str:
    """`48 ms`, `1.9 s`, `2 min 5 s`; a dash for what is not known."""
    if milliseconds is None or math.isnan(milliseconds):
        return "–"
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 59_950:
        return f"{milliseconds / 1000:.1f} s"
    minutes, seconds = divmod(round(milliseconds / 1000), 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def count(number: float | None) -> str:
    """`1,768`; a dash for what is not known."""
    return "–" if number is None else f"{number:,.0f}"


def percent(share: float | None) -> str:
    """`97 %`, and `99.6 %` near the ends, where whole percents say too little."""
    if share is None:
        return "–"
    value = 100 * share
    is_near_an_end = 99 < value < 100 or 0 < value < 1
    return f"{value:.1f} %" if is_near_an_end else f"{value:.0f} %"


def ago(moment: datetime, now: datetime) -> str:
    """`just now`, `12 s`, `5 min`, `3 h`, `2 d`: how long ago it was."""
    seconds = (now - moment).total_seconds()
    if seconds < 2:
        return "just now"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def strip_of(letters: str, *, at_most: int = 20) -> list[tuple[str, int]]:
    """A strip of votes as (letter, place), of a long one as many as there is room for, evenly."""
    if len(letters) <= at_most:
        return list(zip(letters, range(len(letters)), strict=True))
    return [(letters[place * len(letters) // at_most], place) for place in range(at_most)]


class _Matcher(difflib.SequenceMatcher[str]):
    """Finds what two texts have in common in so many steps at most: what would take more counts as different.

    Else two texts of words that come again and again would keep all clients waiting for a minute.
    """

    a: Sequence[str]  # as the library has it, untyped
    b2j: Mapping[str, list[int]]
    steps_left = _MAX_STEPS

    def find_longest_match(
        self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None
    ) -> difflib.Match:
        self.steps_left -= sum(1 + len(self.b2j.get(each, ())) for each in self.a[alo:ahi])
        return difflib.Match(alo, blo, 0) if self.steps_left < 0 else super().find_longest_match(alo, ahi, blo, bhi)


def changes(left: str, right: str) -> tuple[list[tuple[bool, str]], list[tuple[bool, str]]]:
    """Both texts in pieces, each with whether the other text has it not."""
    ours, theirs = _pieces(left), _pieces(right)
    here: list[tuple[bool, str]] = []
    there: list[tuple[bool, str]] = []
    for kind, a, b, c, d in _Matcher(None, ours, theirs, autojunk=False).get_opcodes():
        if a < b:
            here.append((kind != "equal", "".join(ours[a:b])))
        if c < d:
            there.append((kind != "equal", "".join(theirs[c:d])))
    return here, there


def _pieces(text: str) -> list[str]:
    """Words with the white space after them; beyond 2,000 of them lines, so that a comparison stays quick."""
    words = [word for line in text.splitlines(keepends=True) for word in line.replace(" ", " \0").split("\0")]
    return words if len(words) <= 2_000 else text.splitlines(keepends=True)[:2_000]


def short_id(request_id: str) -> str:
    """The end of a request id: its beginning is the time, which neighbours share."""
    return request_id[-12:]


def words(name: str | None) -> str:
    """A name of the system's own as it is told."""
    return (name or "").replace("_", " ")


def _when(timestamp_ms: int) -> str:
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


_FILTERS: Mapping[str, Any] = {
    "one_line": in_one_line, "ms": duration, "count": count, "percent": percent, "ago": ago, "strip": strip_of,
    "words": words, "when": _when,
    "short_id": short_id, "exp": lambda logprob: None if logprob is None else math.exp(logprob),
}  # fmt: skip
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(_TEMPLATES),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(_FILTERS)
