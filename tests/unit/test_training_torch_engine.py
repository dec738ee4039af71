"""The shipped model on PyTorch alone."""

from pathlib import Path

import pytest

from conclave import prompts
from conclave.engine.protocol import DecodeRequest
from schemas.values import FinishReason
from training.torch_engine import TorchBatchEngine

MODEL = Path(__file__).parents[2] / "models" / "reasoner"
QUESTION = "Tom has 347 apples. Tom buys 85 more. How many apples does Tom have now?"


def test_a_batch_is_decoded_to_stops_limits_and_ends_and_goes_on_from_what_was_said() -> None:
    engine = TorchBatchEngine(MODEL)
    forms = prompts.load("reasoner-v3")
    line = forms.form("next_line").render({"question": QUESTION})
    finish = forms.form("finish").render({"question": QUESTION, "path": "a 347+85=432"})
    first, cut, last = engine.decode(
        [
            DecodeRequest("0", line.messages, line.stop, temperature=0.0),
            DecodeRequest("1", line.messages, temperature=0.8, max_tokens=3),
            DecodeRequest("2", finish.messages, temperature=0.0),
        ]
    )
    assert first.text.startswith("a 347+85")
    assert "\n" not in first.text
    assert (cut.finish_reason, cut.tokens_out) == (FinishReason.LENGTH, 3)
    assert (last.text, last.finish_reason) == ("Answer: 432", FinishReason.STOP)
    with pytest.raises(ValueError, match="top_p"):
        engine.decode([DecodeRequest("3", line.messages, top_p=0.5)])
