"""In what words a form's model answers, and in what words it is told things: data of the form, which travels with the ask."""

from typing import Annotated

from msgspec import Meta, Struct

Pattern = Annotated[str, Meta(min_length=1, max_length=1_000, description="RE2, of all of a text")]
Words = Annotated[str, Meta(min_length=1, max_length=1_000)]
Template = Annotated[str, Meta(min_length=1, max_length=1_000, description="with {fields}")]


class Wording(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The words of one form for what strategies, programs and equivalences read and write.

    The defaults are those of every event that says nothing of its words, as all were in these before a form could say its own:
    to change one is to change what the events in logs and records mean.
    """

    # Read: patterns of all of what is looked at.
    no_follow_up: Pattern = (
        r"(?i)[^\pL\pN_]*(?:none|nothing|done|no|(?:final )?answer(?:[^\pL\pN_].*)?"
        r"|no (?:more |further )?(?:follow[- ]?ups?|questions?|sub-?questions?)(?: (?:are|is) (?:needed|left))?)[^\pL\pN_]*"
    )
    no_call: Pattern = r"(?i)[^\pL\pN_]*(?:none|nothing|no|no (?:call|tool))[^\pL\pN_]*"
    gives_answer: Pattern = r"(?is)[^\pL\pN_]*(?:the |final |so )*answer(?:[^\pL\pN_].*)?"
    part: Pattern = r"(?P<number>[0-9]{1,3})(?: needs (?P<needs>[0-9]{1,3}(?: [0-9]{1,3})*))?: (?P<text>\S.*)"
    blames: Pattern = r"(?is)step (?P<step>[0-9]{1,3}) is wrong(?:[^\pL\pN_].*)?"
    names_choice: Pattern = (
        r"(?i)[^\pL\pN_]*(?:(?:the )?(?:best )?(?:candidate|answer|option|choice)(?: is)?)?"
        r"[^\pL\pN_]*(?P<label>[a-h1-8])[^\pL\pN_]*"
    )
    content: Words = "right"
    # Written: templates of one line.
    known: Template = "#{number} = {answer}"
    known_in_full: Template = "#{number}: {question} = {answer}"
    voted: Template = "{answer}: {votes} votes"
    voted_once: Template = "{answer}: {votes} vote"
    called: Template = "{argument} -> {result}"
    not_called: Template = "{argument} -> ({reason}: {why})"
    trial: Template = "{number}: came to {answer}. {criticism}"
    no_answer: Words = "no answer"
    answered: Template = "Answer: {answer}"
