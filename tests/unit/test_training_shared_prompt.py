"""Paths that share their prompt's keys and values are drawn as the model has it."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from conclave.prompts import Message
from schemas.values import FinishReason
from training.shared_prompt_engine import SharedPromptEngine

MODEL = Path(__file__).resolve().parents[2] / "models" / "reasoner"
PROMPTS = [
    (Message("user", "Tom has 5 apples. Tom buys 7 more. How many apples does Tom have now?\nThink step by step."),),
    (Message("user", "Ann owns 69 books. How many books is that?\nThink step by step."),),
]


@pytest.mark.filterwarnings("ignore")
def test_the_log_probabilities_are_those_of_the_model_alone() -> None:
    engine = SharedPromptEngine(MODEL, seed=3)
    paths = engine.sample(PROMPTS, 3, temperature=0.8, max_tokens=12)
    model = AutoModelForCausalLM.from_pretrained(MODEL).eval()
    num_compared = 0
    for prompt, of in zip(PROMPTS, paths, strict=True):
        assert len(of) == 3
        for path in of:
            assert path.text == "".join(path.token_texts)
            tokens = engine._tokenizer(path.text, add_special_tokens=False)["input_ids"]
            if path.finish_reason is FinishReason.STOP:
                tokens.append(engine._tokenizer.eos_token_id)
            if len(tokens) != path.tokens_out:
                continue  # the text alone is split into other tokens
            ids = engine._ids(prompt)
            with torch.inference_mode():
                logprobs = model(input_ids=torch.tensor([ids + tokens])).logits[0].log_softmax(-1)
            expected = [float(logprobs[len(ids) - 1 + at, token]) for at, token in enumerate(tokens)]
            assert list(path.token_logprobs) == pytest.approx(expected, abs=1e-4)
            num_compared += 1
    assert num_compared >= 2


@pytest.mark.filterwarnings("ignore")
def test_the_same_seed_draws_the_same_paths() -> None:
    one, other = (SharedPromptEngine(MODEL, seed=8).sample(PROMPTS, 2, temperature=0.8, max_tokens=8) for _ in range(2))
    assert one == other
