"""A form: one way to ask, and what is read out of what the model says to it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from msgspec import Struct

from conclave.domain import choices
from conclave.domain.extraction import Extractor
from conclave.domain.extraction.patterns import Pattern
from conclave.domain.extraction.replies import whole_text
from conclave.errors import ConclaveError
from schemas.values import Call, Wording

# What strategies and programs fill forms with.
FIELDS: dict[str, str] = {
    "question": "what is asked",
    "earlier": "what the steps that it needs came to, a line each in the form's words: `#1 = 36`",
    "earlier_in_full": "the same with their questions: `#1: how many … = 36`",
    "path": "an earlier path, or the lines of a branch so far",
    "blamed": "a branch, with its answer, in which a critic finds a line wrong",
    "criticism": "what a critic says of an earlier path, or of a branch",
    "trials": "all earlier attempts, what each came to and what a critic said of it",
    "asked": "the follow-up questions so far, a line each, as the model put them",
    "schema": "the JSON Schema that the answer has to fit",
    "candidates": "answers to choose among, `A: 36` a line",
}
_TOOL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MAX_CALL_CHARS = 16_384  # before the end of a text, in which a call is looked for


@dataclass(eq=False)
class UnknownPrompt(ConclaveError):
    """A prompt set, form or field that is asked for and not there."""

    what: str
    name: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return f"no {self.what} {self.name!r}; there are: {', '.join(self.known)}"


class Message(Struct, frozen=True):
    """One turn of a chat. If the last one is the assistant's, the model goes on from it."""

    role: str
    content: str


class Rendered(Struct, frozen=True):
    """A prompt, ready for a chat template, and the strings at which generation stops."""

    messages: tuple[Message, ...]
    stop: tuple[str, ...]


class Reading(Struct, frozen=True):
    """What was found in a text."""

    answer: str | None
    call: Call | None
    is_declined: bool = False  # the model says that what it is asked is not what it is for


class Produces(StrEnum):
    """What the answer that is found in a form's text is to those who asked."""

    ANSWER = "answer"
    PLAN = "plan"  # sub-questions
    CRITICISM = "criticism"  # none when there is nothing to criticise
    PROBABILITY = "probability"  # from 0 to 1
    CHOICE = "choice"  # one of the candidates, as that stands in them


@dataclass(frozen=True, slots=True)
class ToolUse:
    """How a form's model calls tools: the pattern of a call at a text's end, and how the tool's answer is put in after it.

    With several tools the call names which: its pattern has a group `tool`.
    """

    tools: tuple[str, ...]
    call: Pattern
    observe: str

    def called_in(self, text: str) -> Call | None:
        """The call at the end of `text`, if there is one. One of a tool that is not offered is a call: its answer says so."""
        data = text[-_MAX_CALL_CHARS:].encode("utf-8", "replace")
        found = self.call.last(data, "argument")
        if found is None:
            return None
        named = self.call.last(data, "tool") if "tool" in self.call.group_names else None
        tool = self.tools[0] if named is None else named[0].strip().casefold()
        return Call(tool, found[0]) if _TOOL_NAME.fullmatch(tool) else None

    def observation(self, result: str) -> str:
        """What follows the call in the text."""
        return self.observe.replace("{result}", result)


@dataclass(frozen=True, slots=True)
class Form:
    """One way to ask."""

    name: str
    user: str
    system: str | None = None
    begun: str = ""  # what the model has said already, so that it goes on from it
    stop: tuple[str, ...] = ()
    extractor: Extractor | None = None
    fields: tuple[str, ...] = ("question",)
    otherwise: Mapping[str, str] = field(default_factory=dict)  # what stands where a field is not given
    produces: Produces = Produces.ANSWER
    satisfied: str = ""  # the answer of a critic that finds nothing wrong
    out_of: float = 1.0  # what a certainty is written as
    tool_use: ToolUse | None = None
    words: Wording = Wording()  # in which it is told things, and answers
    declines: str = ""  # all that the model says to what it is not for; "": nothing says so

    def check(self, fields: Mapping[str, str]) -> None:
        """Nothing, if all that the form needs is given. Raises: UnknownPrompt, naming what is missing."""
        for name in self.fields:
            if name not in fields and name not in self.otherwise:
                raise UnknownPrompt("field", name, tuple(fields))

    def render(self, fields: Mapping[str, str], so_far: str = "") -> Rendered:
        """The prompt with its fields filled in, to be gone on with from `so_far`. Raises: UnknownPrompt when one is missing."""
        self.check(fields)
        filled = {**self.otherwise, **fields} if self.otherwise else fields
        so_far = self.said(fields) + so_far
        messages = [] if self.system is None else [Message("system", self.system)]
        messages.append(Message("user", self.user.format_map(filled)))
        if so_far:
            messages.append(Message("assistant", so_far))
        return Rendered(tuple(messages), self.stop)

    def said(self, fields: Mapping[str, str]) -> str:
        """What the model has said before its first turn: `begun` filled in; nothing where one of its fields is not given."""
        if not self.begun:
            return ""
        try:
            return self.begun.format_map(fields)
        except KeyError:
            return ""

    def extract(self, text: str, *, is_cut: bool = False) -> str | None:
        """The answer that a completion states; None when it states none. Never fails, and takes time linear in the text.

        Of a text that ends where its tokens ran out (`is_cut`) only an answer that is certainly whole counts.
        """
        return None if self.extractor is None else self.extractor(text, is_cut)

    def read(
        self, text: str, so_far: str = "", *, is_cut: bool = False, fields: Mapping[str, str] | None = None
    ) -> Reading:
        """What a completion that went on from `so_far` comes to, and the tool that it calls at its end. Never fails.

        A choice is read as that one of the `candidates` among `fields` that it means, an option as one of their `question`.
        """
        if self.declines and self.declines in text and whole_text(text, is_cut) == self.declines:
            return Reading(None, None, is_declined=True)
        call = None if self.tool_use is None else self.tool_use.called_in(text)
        return Reading(self._meant(self.extract(so_far + text, is_cut=is_cut), fields or {}), call)

    def _meant(self, answer: str | None, fields: Mapping[str, str]) -> str | None:
        if answer is None:
            return None
        match self.produces:
            case Produces.CRITICISM:
                return None if answer.casefold() == self.satisfied.casefold() else answer
            case Produces.PROBABILITY:
                return _share(answer, self.out_of)
            case Produces.CHOICE:
                return choices.chosen(
                    answer, choices.candidates_of(fields.get("candidates", "")), self.words.names_choice
                )
            case Produces.ANSWER:
                return choices.of_question(answer, fields.get("question", ""))
            case _:
                return answer


@dataclass(frozen=True, slots=True)
class PromptSet:
    """The forms of one version for one kind of model."""

    name: str
    forms: Mapping[str, Form]
    purpose: str = ""  # what its model is for, and what to do with anything else

    def form(self, name: str) -> Form:
        """A form by name. Raises: UnknownPrompt."""
        try:
            return self.forms[name]
        except KeyError:
            raise UnknownPrompt(f"form in prompt set {self.name!r}", name, tuple(self.forms)) from None


def _share(text: str, out_of: float) -> str | None:
    """`95` out of 100 as `0.95`; None for what is no number from 0 to `out_of`."""
    try:
        share = float(text) / out_of
    except ValueError:
        return None
    return f"{share:g}" if 0.0 <= share <= 1.0 else None
