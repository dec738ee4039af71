"""What a path says, read at its end, is what vLLM reads token by token: of any tokens, broken characters among them."""

from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers

_MODEL = Path(__file__).resolve().parents[2] / "models" / "reasoner"
_TEXTS = ("Step 1: 347 + 85 = 432\nAnswer: 432", "drei Äpfel für 5 €", "答案是 42。", "🙂🙃", " it's  odd ")

pytestmark = pytest.mark.filterwarnings("ignore")  # of vLLM and transformers: none of them ours


def _byte_fallback() -> Any:
    """Tokens as SentencePiece's models have them: spaces that a word begins with, and bytes for what has no word."""
    said = [
        "<s>",
        "</s>",
        "<unk>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        "▁Answer",
        ":",
        "4",
        "2",
        "a",
        "ä",
        "答",
    ]
    tokenizer = Tokenizer(
        models.BPE({each: at for at, each in enumerate(said)}, [], byte_fallback=True, unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return import_module("transformers").PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>"
    )


_NAMES = ("bytes", "sentence pieces")


@cache
def _tokenizer(name: str) -> Any:
    if name == "sentence pieces":
        return _byte_fallback()
    return import_module("transformers").AutoTokenizer.from_pretrained(str(_MODEL))


def _words(tokenizer: object) -> Any:
    """Imported where a test runs, as vLLM warns of what it imports."""
    return import_module("conclave.engine.vllm.words").Words(tokenizer)


def _as_vllm_reads(tokenizer: Any, prompt: list[int], said: list[int], *, is_stopped: bool) -> str:
    vllm, detokenizer = import_module("vllm"), import_module("vllm.v1.engine.detokenizer")
    request = SimpleNamespace(sampling_params=vllm.SamplingParams(), prompt_token_ids=prompt, request_id="a")
    reader = detokenizer.FastIncrementalDetokenizer(tokenizer, request)
    for at, token in enumerate(said):
        reader.update([token], is_stopped and at == len(said) - 1)
    return str(reader.get_next_output_text(finished=True, delta=False))


@pytest.mark.parametrize("name", _NAMES)
@settings(max_examples=300, deadline=None)
@given(data=st.data(), is_stopped=st.booleans())
def test_any_tokens_read_at_once_are_what_vllm_reads_one_by_one(
    name: str, data: st.DataObject, is_stopped: bool
) -> None:
    tokenizer = _tokenizer(name)
    tokens = st.lists(st.integers(0, len(tokenizer) - 1), min_size=1, max_size=24)
    prompt, said = data.draw(tokens), data.draw(tokens)
    text, pieces = _words(tokenizer).read(prompt, said, is_stopped=is_stopped)
    assert text == _as_vllm_reads(tokenizer, prompt, said, is_stopped=is_stopped)
    assert len(pieces) == len(said)


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("text", _TEXTS)
def test_what_a_model_writes_is_read_whole_and_its_pieces_make_it_up(name: str, text: str) -> None:
    tokenizer = _tokenizer(name)
    prompt, said = (
        tokenizer.encode("Answer:", add_special_tokens=False),
        tokenizer.encode(text, add_special_tokens=False),
    )
    read, pieces = _words(tokenizer).read(prompt, said, is_stopped=False)
    assert read == _as_vllm_reads(tokenizer, prompt, said, is_stopped=False)
    assert "".join("".join(pieces).split()) == "".join(read.split())  # vLLM drops a space that is a token of its own
    assert read


def test_a_tokenizer_of_another_library_reads_nothing_here() -> None:
    assert not _words(object()).is_able
    assert _words(_tokenizer("bytes")).is_able
