"""Prompt forms as data, in versioned sets: one for the model that ships, one for instruction-tuned models.

A set is a TOML file in this folder. Each form has the user's message, optional system message and stop strings, and the
patterns that find an answer in what the model says; the last match of the first pattern that matches counts.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from string import Formatter

from conclave.errors import ConclaveError


@dataclass(eq=False)
class UnknownPrompt(ConclaveError):
    """A prompt set, form or field that is asked for and not there."""

    what: str
    name: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return f"no {self.what} {self.name!r}; there are: {', '.join(self.known)}"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt, ready for a chat template, and the strings at which generation stops."""

    messages: tuple[Message, ...]
    stop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """One way to ask."""

    name: str
    system: str | None
    user: str
    stop: tuple[str, ...]
    answer: tuple[re.Pattern[str], ...]
    fields: tuple[str, ...]

    def render(self, fields: Mapping[str, str]) -> Rendered:
        """The prompt with its fields filled in. Raises: UnknownPrompt when one is missing."""
        missing = next((name for name in self.fields if name not in fields), None)
        if missing is not None:
            raise UnknownPrompt("field", missing, tuple(fields))
        user = Message("user", self.user.format_map(fields))
        messages = (user,) if self.system is None else (Message("system", self.system), user)
        return Rendered(messages, self.stop)

    def extract_answer(self, text: str) -> str | None:
        """The answer that a completion states; None when it states none. Never fails."""
        for pattern in self.answer:
            found = pattern.findall(text)
            if found:
                return str(found[-1]).strip() or None
        return None


@dataclass(frozen=True, slots=True)
class PromptSet:
    """The forms of one version for one kind of model."""

    name: str
    forms: Mapping[str, Form]

    def form(self, name: str) -> Form:
        """A form by name. Raises: UnknownPrompt."""
        try:
            return self.forms[name]
        except KeyError:
            raise UnknownPrompt(f"form in prompt set {self.name!r}", name, tuple(self.forms)) from None


def names() -> tuple[str, ...]:
    """The prompt sets that there are."""
    return tuple(
        sorted(
            each.name.removesuffix(".toml")
            for each in resources.files(__name__).iterdir()
            if each.name.endswith(".toml")
        )
    )


@cache
def load(name: str) -> PromptSet:
    """A prompt set by name. Raises: UnknownPrompt."""
    if name not in names():
        raise UnknownPrompt("prompt set", name, names())
    data = tomllib.loads((resources.files(__name__) / f"{name}.toml").read_text())
    return PromptSet(name, {form: _form(form, row) for form, row in data["forms"].items()})


def _form(name: str, row: Mapping[str, object]) -> Form:
    user = str(row["user"])
    stop, answer = row.get("stop", []), row.get("answer", [])
    assert isinstance(stop, list)
    assert isinstance(answer, list)
    return Form(
        name=name,
        system=str(row["system"]) if "system" in row else None,
        user=user,
        stop=tuple(stop),
        answer=tuple(re.compile(pattern, re.IGNORECASE) for pattern in answer),
        fields=tuple(field for _, field, _, _ in Formatter().parse(user) if field),
    )
