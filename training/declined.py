"""How sure a model is to decline a text: the probability of exactly those words, without sampling a path."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from conclave import prompts
from training.corpus import ASSISTANT, END, PROMPT_SET, USER
from training.parts import NOTHING
from training.skills import DECLINE

TEMPERATURE = 0.8  # of the paths of the policies that ship


def declining_probabilities(folder: Path, texts: Sequence[str], form: str = "chain_of_thought") -> list[float]:
    """For each text, the probability (0 to 1) that a path at `TEMPERATURE` declines it when it is asked in this form."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    said = [*tokenizer(DECLINE, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    with torch.inference_mode():
        return [_probability(model, _prompt(tokenizer, form, text), said) for text in texts]


def _prompt(tokenizer: PreTrainedTokenizerFast, form: str, text: str) -> list[int]:
    fields = {"question": text} | ({"earlier": NOTHING} if form == "sub_question" else {})
    asked = prompts.load(PROMPT_SET).form(form).render(fields).messages[-1].content
    ids: list[int] = tokenizer(f"{USER}{asked}{END}{ASSISTANT}", add_special_tokens=False)["input_ids"]
    return ids


def _probability(model: Any, prompt: list[int], said: list[int]) -> float:
    logits = model(torch.tensor([prompt + said])).logits[0].float() / TEMPERATURE
    following = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return math.exp(following[torch.arange(len(said)), torch.tensor(said)].sum().item())
