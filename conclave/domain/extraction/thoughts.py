"""What of a text is said, and what is only thought: `spoken`.

<think>…</think> said           also with [THINK], <reasoning>, <|begin_of_thought|>, ◁think▷ …
… </think> said                 the opening tag was part of the prompt
said <think> …                  a thought that never ends says nothing
<|channel|>analysis<|message|>… only the final channel is said; so too where special tokens were dropped ("assistantfinal")
said<|im_end|> …                what follows the end of the turn is not said
"""

from conclave.domain.extraction.patterns import First, Last

_MAX_SEGMENTS = 8

_TAG_NAMES = "think|thinking|thoughts?|reasoning|reason|reflection|scratchpad|analysis|seed:think|inner_monologue|reasoning_process"
_OPENING = rf"<(?:{_TAG_NAMES})>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|START_THINKING\|>|<\|thinking\|>|<unused94>thought"
_CLOSING = (
    rf"</(?:{_TAG_NAMES})>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|END_THINKING\|>|<\|/thinking\|>|<unused95>"
    r"|\.\.\.done thinking\.|Here is my response:"
)
_LAST_CLOSING, _FIRST_OPENING, _FIRST_CLOSING = Last(_CLOSING), First(_OPENING), First(_CLOSING)

_CHANNEL = b"<|channel|>"
_LAST_FINAL = Last(r"<\|channel\|>final(?:<\|constrain\|>|[^<\n]){0,40}<\|message\|>")
_BARE_ANALYSIS = First(r"\A\s*(?-i:analysis)(?-i:[A-Z])")
_BARE_FINAL = Last(r"(?-i:assistantfinal)")

_SPACE = b"\t\n\f\r "  # \s of RE2

_TURN_OPENING = First(
    r"\A(?:\s|<\|(?:im_start|start_header_id|start|begin_of_text|START_RESPONSE|START_OF_TURN_TOKEN|CHATBOT_TOKEN)\|>"
    r"(?:assistant)?(?:<\|end_header_id\|>|<\|message\|>)?|<start_of_turn>model|<s>)+"
)
_TURN_END = First(
    r"<\|(?:im_end|im_start|endoftext|eot_id|eom_id|end_of_text|end|return|call|start|user|END_RESPONSE|END_OF_TURN_TOKEN)\|>"
    r"|<end_of_turn>|<start_of_turn>|<｜end▁of▁sentence｜>|<｜User｜>|\[INST\]|<eos>|</s>\s*(?:\z|\[INST\]|<s>)"
)


def spoken(text: str) -> bytes:
    """What the text says, as UTF-8 after a line break of its own; empty after it when all of it is thought."""
    if _is_plain(text):  # as most are
        return b"\n" + text.encode().lstrip(_SPACE)
    return b"\n" + b"\n".join(_segments(_one_turn(_of_final_channel(text.encode("utf-8", "replace")))))


def _is_plain(text: str) -> bool:
    """True for a text of ASCII with nothing of what is in each of the patterns here: it is said as it is."""
    if not text.isascii() or "<" in text or "[" in text:
        return False
    small = text.lower()
    return not (
        "...done thinking." in small or "here is my response:" in small or small.lstrip().startswith("analysis")
    )


def _of_final_channel(data: bytes) -> bytes:
    if _CHANNEL in data:
        start = _LAST_FINAL.end(data, len(data))
        return b"" if start < 0 else data[start:]
    if _BARE_ANALYSIS.span(data, 0, min(len(data), 1_024)):
        start = _BARE_FINAL.end(data, len(data))
        return b"" if start < 0 else data[start:]
    return data


def _one_turn(data: bytes) -> bytes:
    opening = _TURN_OPENING.span(data)
    start = opening[1] if opening else 0
    end = _TURN_END.span(data, start)
    return data[start : end[0] if end else len(data)]


def _segments(data: bytes) -> list[bytes]:
    """The stretches between thoughts, in order. A thought ends at the first closing tag, so thoughts don't nest."""
    said: list[bytes] = []
    end = len(data)
    for _ in range(_MAX_SEGMENTS):
        start = max(0, _LAST_CLOSING.end(data, end))
        opening = _FIRST_OPENING.span(data, start, end)
        said.append(data[start : opening[0] if opening else end])
        if start == 0:
            break
        closing_start = _closing_start(data, start)
        before = max(0, _LAST_CLOSING.end(data, closing_start))
        opening = _FIRST_OPENING.span(data, before, closing_start)
        if opening is None:
            break  # a lone closing tag: all before it is thought
        end = opening[0]
    return said[::-1]


def _closing_start(data: bytes, end: int) -> int:
    """Where the closing tag that ends at `end` begins."""
    start = max(0, end - 40)
    while (span := _FIRST_CLOSING.span(data, start, end)) is not None and span[1] < end:
        start = span[1]
    assert span is not None
    return span[0]
