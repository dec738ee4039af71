"""The shipped model's tokenizer and template, and the batches that it learnt from."""

import json
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from training.corpus import ASSISTANT, END, IGNORED, USER, batches, encode, lessons, prompt_of

MODEL = Path(__file__).resolve().parents[2] / "models" / "reasoner"
MAX_BYTES = 16 * 1024 * 1024


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    loaded: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(MODEL)
    return loaded


def test_the_model_that_ships_is_small_standard_and_complete() -> None:
    files = {file.name: file for file in MODEL.iterdir()}
    assert set(files) >= {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "README.md"}
    assert sum(file.stat().st_size for file in files.values()) <= MAX_BYTES
    assert json.loads(files["config.json"].read_text())["architectures"] == ["LlamaForCausalLM"]


@given(text=st.text(max_size=60))
def test_any_text_encodes_and_comes_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


@given(number=st.integers(0, 10**12))
def test_digits_stand_alone(tokenizer: PreTrainedTokenizerFast, number: int) -> None:
    assert tokenizer.tokenize(str(number)) == list(str(number))


def test_the_chat_template_says_what_was_trained(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [{"role": "user", "content": "1+1?"}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == f"{USER}1+1?{END}{ASSISTANT}"


def test_only_what_the_model_is_to_say_is_learnt(tokenizer: PreTrainedTokenizerFast) -> None:
    for each in islice(lessons(11), 200):
        ids, labels = encode(tokenizer, each)
        learnt = tokenizer.decode([token for token in labels if token != IGNORED])
        assert learnt == "".join(piece.text for piece in each.completion if not piece.is_given) + END
        assert all(label in (IGNORED, token) for token, label in zip(ids, labels, strict=True))


def test_a_chain_of_pieces_is_tokenized_as_the_engine_sees_the_whole(tokenizer: PreTrainedTokenizerFast) -> None:
    """A tool's result is put in as text and all is tokenized anew: the tokens must be those that were learnt."""
    for each in islice(lessons(12), 200):
        ids, _ = encode(tokenizer, each)
        whole = f"{USER}{prompt_of(each)}{END}{ASSISTANT}{''.join(piece.text for piece in each.completion)}{END}"
        assert ids == tokenizer(whole, add_special_tokens=False)["input_ids"]


def test_batches_repeat_with_their_seed_and_hold_about_as_many_tokens_as_asked(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    first, again = (list(islice(batches(tokenizer, 4, tokens_per_batch=1024), 8)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        assert one.ids.shape == one.labels.shape
        assert one.ids.numel() <= 1024
