"""What servers say of a prompt that is too long, and the figures in it.

Each row is one server's sentence with its figures: `prompt` tokens, `answer` tokens asked for, the model's `limit`. A sentence
may be said with fewer of them. Sources: the servers' code and public reports; vLLM 0.3 to 0.33, SGLang 0.4 to 0.5, llama.cpp, TGI 1
to 3, OpenAI, and the gateways that pass their own words on.
"""

import re
from dataclasses import dataclass

_N = r"(?P<{}>\d[\d,]*)"


def _row(sentence: str) -> re.Pattern[str]:
    """The sentence as a pattern: `<name>` stands for a figure, `…` for a few words."""
    pattern = re.escape(sentence).replace("…", ".{0,80}?")
    return re.compile(re.sub(r"<(\w+)>", lambda found: _N.format(found[1]), pattern), re.IGNORECASE)


_SENTENCES = (
    # OpenAI, the gateways to it, and vLLM before 0.6
    "length is <limit> tokens. However, you requested… (<prompt> in the messages, <answer> in the completion)",
    "length is <limit> tokens, however you requested… (<prompt> in your prompt; <answer> for the completion)",
    "length is <limit> tokens. However, you requested… (<prompt> of text input, <answer> in the output)",
    "length is <limit> tokens. However, your messages resulted in <prompt> tokens",
    "exceed the configured limit of <limit> tokens. Your messages resulted in <prompt> tokens",
    # vLLM since 0.6
    "is too large: <answer>. This model's maximum context length is <limit> tokens and your request has <prompt> input",
    "length is <limit> tokens. However, your request has <prompt> input tokens",
    "length is <limit> tokens. However, your prompt contains <prompt> input tokens",
    "length is <limit> tokens. However, your prompt contains at least <prompt> input tokens",
    "length is <limit> tokens. However, you requested <answer> output tokens and your prompt contains <prompt> input",
    "length is <limit> tokens. However, you requested <answer> output tokens and your prompt contains at least <prompt> input",
    "passed <prompt> input tokens and requested <answer> output tokens… context length is only <limit> tokens",
    "prompt (length <prompt>)… longer than the maximum model length of <limit>",
    "prompt (total length <prompt>) is too long to fit into the model (context length <limit>)",
    "Input prompt (<prompt> tokens) is too long and exceeds limit of <limit>",
    "Input length (<prompt>) exceeds model's maximum context length (<limit>)",
    # SGLang
    "context length of <limit> tokens. You requested… <prompt> tokens from the input messages and <answer> tokens",
    "The input (<prompt> tokens) is longer than the model's context length (<limit> tokens)",
    "Input length (<prompt> tokens) exceeds the maximum allowed length (<limit> tokens)",
    # llama.cpp
    "request (<prompt> tokens) exceeds the available context size (<limit> tokens)",
    "n_prompt_tokens <prompt>, n_ctx <limit>",
    # TGI
    "`inputs` tokens + `max_new_tokens` must be <= <limit>. Given: <prompt> `inputs` tokens and <answer> `max_new_tokens`",
    "`inputs` must have less than <limit> tokens. Given: <prompt>",
    # other clouds
    "prompt is too long: <prompt> tokens > <limit> maximum",
    "input token count (<prompt>) exceeds the maximum number of tokens allowed (<limit>)",
    "Prompt contains <prompt> tokens… too large for model with <limit> maximum context length",
    "maximum prompt length is <limit> but the request contains <prompt> tokens",
    "prompt token count of <prompt> exceeds the limit of <limit>",
    # without the prompt's own length
    "maximum context length is <limit> tokens",
    "maximum context length of <limit> tokens",
    "context length is only <limit> tokens",
    "context length of only <limit> tokens",
)
SENTENCES = tuple(map(_row, _SENTENCES))

WITHOUT_FIGURES = re.compile(
    r"context.?(length|size|window).?exceeded|exceed.?context.?size|string.above.max.length messages|request.too.large"
    r"|exceeds? (the |model'?s? |your )?(available |maximum |max )?context (size|window|length)"
    r"|(longer|greater|larger) than the (model'?s? )?(maximum )?context (size|window|length)"
    r"|prompt (is )?too (long|large)|input (is )?too (long|large)"
    r"|reduce the length of the (messages|prompt|input)|exceeded model token limit|input length exceeds",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Lengths:
    """In tokens; None where the server gave no figure. `answer` is what was asked for besides the prompt."""

    prompt: int | None = None
    limit: int | None = None
    answer: int | None = None


def is_prompt_too_long(words: str) -> bool:
    """True when a server says, in whatever words, that a prompt is longer than the model takes."""
    return WITHOUT_FIGURES.search(words) is not None or any(sentence.search(words) for sentence in SENTENCES)


def lengths(words: str) -> Lengths:
    """The figures that a server gave."""
    for sentence in SENTENCES:
        found = sentence.search(words)
        if found is not None:
            figures = {name: int(text.replace(",", "")) for name, text in found.groupdict().items()}
            return Lengths(figures.get("prompt"), figures.get("limit"), figures.get("answer"))
    return Lengths()
