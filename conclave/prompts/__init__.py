"""Prompt forms as data, in versioned sets: one for the model that ships, one for instruction-tuned models, and an operator's own.

A set is a TOML file, named after it. What is said of all of it stands first:
    declines    all that the model says to what it is not for: such a path has no answer, and counts as one that declines
    purpose     what the model is for, told to who asked what it declines
Then a table `[forms.<name>]` each:
    user        the user's message, with {fields}; `system` may stand before it
    begun       what the model has said already, with {fields}, so that it goes on from it; nothing while one is not given
    stop        strings at which generation stops
    extract     what finds the answer in what the model says: a row of conclave.domain.extraction.EXTRACTORS, such as "final_answer"
    answer      instead of it, patterns (RE2) of an own format; the last match of the first one that matches counts
    otherwise   what stands where a field is not given
    produces    what the answer is: "answer", "plan", "criticism", "probability" or "choice" (one of the `candidates`)
    satisfied   of a criticism: the answer that finds nothing wrong;  out_of: of a probability, what a certainty is written as
    tool, call, observe   the tool that it may call, the pattern of a call at the text's end, with a group (?P<argument>…),
                and how the tool's {result} is written after it; `tools` instead, where a group (?P<tool>…) of the call names which
    wording     in what words the model says what strategies, programs and votes have to understand, and is told what came of
                things: conclave.prompts.wording
"""

from collections.abc import Collection, Mapping
from functools import cache
from importlib import resources
from pathlib import Path

from conclave.errors import Misconfigured, WrongSetting
from conclave.prompts.forms import FIELDS, Form, Message, Produces, PromptSet, Reading, Rendered, UnknownPrompt
from conclave.prompts.reading import read_set
from conclave.toml_files import text_of, toml_files

__all__ = [
    "FIELDS", "Form", "Message", "Produces", "PromptSet", "Reading", "Rendered", "UnknownPrompt",
    "available", "load", "names", "shipped",
]  # fmt: skip


def available(folder: Path | None, *, tools: Collection[str]) -> dict[str, PromptSet]:
    """The sets that ship and those of an operator's folder, by name. Raises: Misconfigured, with all that is wrong in it."""
    sets, faults = dict(shipped()), []
    try:
        files = [] if folder is None else toml_files(folder)
    except OSError as error:
        got = "no folder" if isinstance(error, FileNotFoundError | NotADirectoryError) else str(error)
        raise Misconfigured([WrongSetting(str(folder), "a folder of prompt sets, <name>.toml each", got)]) from None
    for file in files:
        try:
            text = text_of(file)
        except (OSError, ValueError) as error:
            faults.append(WrongSetting(str(file), "a readable file in UTF-8", str(error)))
            continue
        found, wrong = read_set(file.stem, str(file), text, tools)
        faults += wrong
        if found.name in sets:
            faults.append(WrongSetting(str(file), "a name of its own: a set that ships is not replaced", found.name))
        sets[found.name] = found
    if faults:
        raise Misconfigured(faults)
    return sets


_SHIPPED_TOOLS = (
    "calculator",
    "whole_calculator",
    "units",
    "dates",
    "expression",
    "documents",
)  # rows of conclave.tools, which lies above


@cache
def shipped() -> dict[str, PromptSet]:
    """The sets of this folder, by name. Raises: Misconfigured; tests see to it that it doesn't."""
    sets: dict[str, PromptSet] = {}
    faults: list[WrongSetting] = []
    for file in sorted(resources.files(__name__).iterdir(), key=lambda each: each.name):
        if file.name.endswith(".toml"):
            found, wrong = read_set(file.name.removesuffix(".toml"), file.name, file.read_text(), _SHIPPED_TOOLS)
            sets[found.name] = found
            faults += wrong
    if faults:
        raise Misconfigured(faults)
    return sets


def names() -> tuple[str, ...]:
    """The prompt sets that ship."""
    return tuple(shipped())


def load(name: str, sets: Mapping[str, PromptSet] | None = None) -> PromptSet:
    """A set by name, out of those that ship unless others are given. Raises: UnknownPrompt."""
    sets = shipped() if sets is None else sets
    try:
        return sets[name]
    except KeyError:
        raise UnknownPrompt("prompt set", name, tuple(sets)) from None
