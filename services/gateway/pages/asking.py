"""The first page: questions to click, one of one's own, and what visitors say of answers."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from conclave.errors import LostDependency
from conclave.store.listing import Filter
from schemas.events import FeedbackGiven, ReasoningRequested
from schemas.ids import is_request_id, new_request_id
from schemas.values import MAX_QUESTION_CHARS, is_blank
from services.gateway.pages.forking import forked
from services.gateway.pages.rendering import is_part, problem, render
from services.gateway.pages.view import Policies, Publish, View

_SOURCE = "page"
_NUM_LATEST = 8
_MAX_FIELDS = 8


@dataclass(frozen=True, slots=True)
class Question:
    """A question that a newcomer can click."""

    title: str
    question: str
    policy: str
    note: str


# Such as the model that ships can answer, most of the time.
QUESTIONS = (
    Question(
        "Quickly agreed",
        "Tom has 347 apples. Tom buys 85 more. Then Tom gives 120 to Ann. How many apples does Tom have now?",
        "default",
        "Paths are sampled until the leader is 95 % sure to stay ahead: for an easy question a handful will do.",
    ),
    Question(
        "Split into parts",
        "Ron owns 600 cups. The next one has 3 fewer. Lea has 25 fewer than that. Jan has 28 more than that. Tom has 2 times as"
        " many as that. How many cups is that?",
        "least-to-most",
        "The question is split, and each part is put to a vote of its own: see the plan grow.",
    ),
    Question(
        "Contested",
        "Zoe owns 29 books. Amy owns 5 times that. Ida owns 19 fewer than that. Ida owns 125 keys. The next one has 4 times as"
        " many. Max owns 368 fewer than that. Kim owns 119 fewer than that. How much more is the first than the second?",
        "default",
        "A long one, on which paths disagree: the vote goes on until it is clear, or until 16 have spoken.",
    ),
)  # fmt: skip


class AskPages:
    """`/`, and the forms that publish."""

    def __init__(self, view: View, publish: Publish | None, policies: Policies) -> None:
        self._view, self._publish, self._policies = view, publish, policies
        self.routes: list[BaseRoute] = [
            Route("/", self.first),
            Route("/ask", self.ask, methods=["POST"]),
            Route("/feedback", self.feedback, methods=["POST"]),
            Route("/fork", self.fork, methods=["POST"]),
        ]

    async def first(self, request: Request) -> Response:
        """What a newcomer sees."""
        return await self._first(request)

    async def ask(self, request: Request) -> Response:
        """Publishes a question, and leads to the page on which its answer appears."""
        form = await form_of(request)
        if isinstance(form, Response):
            return form
        question, policy = form.get("question", "").strip(), form.get("policy", "")
        said = {"asked": question, "chosen": policy}
        wrong = "" if not is_blank(question) and "\0" not in question else "Write a question."
        if len(question) > MAX_QUESTION_CHARS:
            wrong = f"A question has {MAX_QUESTION_CHARS:,} characters at most; this one has {len(question):,}."
        if policy and policy not in self._policies():
            wrong = "There is no policy of that name."
        if wrong or self._publish is None:
            return await self._first(request, status=422, wrong=wrong or "Nothing can be asked here.", **said)
        request_id = new_request_id()
        try:
            await self._publish(ReasoningRequested(request_id=request_id, question=question, policy=policy or None))
        except LostDependency:
            wrong = "The log is away, so nothing was asked. Try again in a moment."
            return await self._first(request, status=503, wrong=wrong, **said)
        return leads_to(request, f"/requests/{request_id}")

    async def feedback(self, request: Request) -> Response:
        """Publishes what a visitor says that an answer, step or path was worth."""
        form = await form_of(request)
        if isinstance(form, Response):
            return form
        given = _given(form)
        if given is None or self._publish is None:
            told = "Feedback names a request, perhaps a step or a path of it, and says 0 or 1."
            return problem(request, 422, "This can't be said", told)
        try:
            await self._publish(given)
        except LostDependency:
            return problem(request, 503, "Not noted", "The log is away. Say it again in a moment.")
        if is_part(request):
            return render(request, "thanks.html", reward=given.reward)
        return leads_to(request, f"/requests/{given.request_id}{_place_of(given)}")

    async def fork(self, request: Request) -> Response:
        """Has a recorded request go on anew from one of its steps, and leads to the page of that."""
        form = await form_of(request)
        if isinstance(form, Response):
            return form
        request_id, from_step = form.get("request_id", ""), form.get("from_step", "")
        is_named = is_request_id(request_id) and from_step.isdecimal() and len(from_step) < 3
        story = await self._view.story(request_id) if is_named and self._publish is not None else None
        event = None if story is None else forked(story, int(from_step), new_request_id())
        if event is None or self._publish is None:
            told = "A fork names a recorded request and one of its steps; all steps before it must have been decided."
            return problem(request, 422, "This can't be forked", told)
        try:
            await self._publish(event)
        except LostDependency:
            return problem(request, 503, "Not asked", "The log is away. Try again in a moment.")
        return leads_to(request, f"/requests/{event.request_id}")

    async def _first(
        self, request: Request, *, status: int = 200, wrong: str = "", asked: str = "", chosen: str = ""
    ) -> Response:
        page = await self._view.requests(Filter(), limit=_NUM_LATEST)
        values = {
            "questions": QUESTIONS,
            "policies": self._policies(),
            "lines": page.lines,
            "wrong": wrong,
            "asked": asked,
            "chosen": chosen,
        }
        return render(request, "ask.html", status=status, may_ask=self._publish is not None, **values)


def _place_of(given: FeedbackGiven) -> str:
    """Where on the request's page what was judged is."""
    if given.step_index is None:
        return ""
    return (
        f"#step-{given.step_index}" if given.sample_index is None else f"#path-{given.step_index}-{given.sample_index}"
    )


def _given(form: Mapping[str, str]) -> FeedbackGiven | None:
    """What a form says; None where it can't be read."""
    places = {name: form[name] for name in ("step_index", "sample_index") if form.get(name)}
    try:
        found = {"request_id": form["request_id"], "reward": {"0": 0.0, "1": 1.0}[form["reward"]], "source": _SOURCE}
        return msgspec.convert({**found, **{name: int(each) for name, each in places.items()}}, FeedbackGiven)
    except (KeyError, ValueError, msgspec.ValidationError):
        return None


async def form_of(request: Request) -> Mapping[str, str] | Response:
    """The fields of a form that this site's own page has sent, or why it is refused."""
    if not is_from_here(request):
        return problem(request, 403, "Not from here", "Forms are taken from this site's own pages only.")
    form: FormData = await request.form(max_files=0, max_fields=_MAX_FIELDS)
    return {name: value for name, value in form.items() if isinstance(value, str)}


def is_from_here(request: Request) -> bool:
    """True for a request that a page of this very site has made, as the browser says it: no other site can forge that.

    Browsers tell `Sec-Fetch-Site`, older ones only `Origin`. What tells neither is no browser, or one too old to trust.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    host = request.headers.get("host", "")
    return bool(host) and request.headers.get("origin", "").partition("://")[2] == host


def leads_to(request: Request, path: str) -> Response:
    """What sends a browser on to another page."""
    return RedirectResponse(request.scope.get("root_path", "").rstrip("/") + path, status_code=303)
