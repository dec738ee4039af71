"""The worst texts that were found for what reads a model's words: `hostile_texts`."""

from itertools import cycle, islice

# Begun once, repeated, ended once.
_SHAPES = {
    "blanks": ("Answer:", " ", "."),
    "blanks on three lines": ("Answer:" + " " * 4_000 + "\nAnswer:" + " " * 4_000 + "\nAnswer:", " ", "x"),
    "line breaks": ("Answer:", "\n", "5"),
    "list marks": ("", "- ", ""),
    "labels": ("", "Answer:", ""),
    "labels on lines": ("", "\nAnswer: ", ""),
    "labels with placeholders": ("", "\nAnswer: <answer>", ""),
    "labels with stars": ("", "\n**Answer:** **", ""),
    "labels in ideographs": ("", "答", ""),
    "sentences": ("", "the answer is ", ""),
    "sentences that say nothing": ("", "the answer is not. ", ""),
    "sentences that go on": ("", "the answer is 5 ", ""),
    "long sentence ends": ("Answer: ", "a. ", ""),
    "boxes opened": ("", "\\boxed{", ""),
    "boxes nested": ("\\boxed{" * 8_000, "{", "}" * 8_000),
    "boxes empty": ("", "\\boxed{}", ""),
    "boxes of boxes": ("", "\\boxed{5} and ", ""),
    "braces": ("Answer: \\boxed{", "{", ""),
    "braces closed": ("\\boxed{", "{}", ""),
    "thoughts opened": ("", "<think>", ""),
    "thoughts closed": ("", "</think>", ""),
    "thoughts": ("", "<think></think>", "Answer: 5"),
    "answer tags": ("", "<answer>", ""),
    "answer tags closed": ("", "<answer></answer>", ""),
    "channels": ("", "<|channel|>final<|message|>", ""),
    "ends of turns": ("", "<|im_end|>", ""),
    "stars": ("Answer: ", "**", ""),
    "stars and letters": ("Answer: ", "**a ", ""),
    "underscores": ("Answer: ", "_", ""),
    "dollars": ("Answer: ", "$", ""),
    "hashes": ("", "#### ", ""),
    "hashes on lines": ("", "\n#### ", ""),
    "questions": ("Answer: 5", "\nQuestion: x", ""),
    "questions and answers": ("", "\nQuestion: x\nAnswer: ", ""),
    "fields": ("", '"answer": ', ""),
    "fields with open strings": ("", '"answer": "', ""),
    "brackets": ("Answer: ", "(", ""),
    "parenthesis of words": ("Answer: 5 (", "abc ", ""),
    "display maths": ("", "Answer: \\[\n", ""),
    "fences": ("", "Answer:\n```\n", ""),
    "digits": ("Answer: ", "9", ""),
    "letters": ("", "x", ""),
    "four bytes": ("Answer: ", "\N{GRINNING FACE}", ""),
    "marks that combine": ("Answer: e", "\u0301", ""),
    "surrogates": ("", "\ud800", ""),
    "NUL": ("Answer:", "\0", ""),
    "tags": ("Answer: ", "<b>", ""),
    "tags opened": ("Answer: ", "<b ", ""),
    "verdicts": ("", "\nright", ""),
    "verdicts that go on": ("", "\nStep 1 is wrong: - ", ""),
    "percent signs": ("", "5%", ""),
    "prose": ("", "So the total of all is 12, and we multiply it by 3.\n", "Answer: 5"),
}


def hostile_texts(num_chars: int) -> dict[str, str]:
    """A text of that length of each shape, by the shape's name."""
    return {
        name: (begin + "".join(islice(cycle(middle), max(0, num_chars - len(begin) - len(end)))) + end)[:num_chars]
        for name, (begin, middle, end) in _SHAPES.items()
    }
