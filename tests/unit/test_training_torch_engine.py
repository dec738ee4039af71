"""The shipped model on PyTorch alone."""

from pathlib import Path

import pytest

import training.torch_engine
from conclave import prompts
from conclave.engine.protocol import Decoded, DecodeRequest
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


def test_what_a_row_says_does_not_depend_on_whether_rows_that_have_ended_are_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    form = prompts.load("reasoner-v3").form("chain_of_thought").render({"question": QUESTION})
    limits = (3, 40, 5, 24, 40, 4)
    requests = [DecodeRequest(str(n), form.messages, max_tokens=most) for n, most in enumerate(limits)]

    def decoded(most_finished: float) -> tuple[list[Decoded], list[int]]:
        """What is said, and how many rows were computed for each token, where rows are dropped when more have ended."""
        monkeypatch.setattr(training.torch_engine, "_MOST_FINISHED", most_finished)
        engine = TorchBatchEngine(MODEL, seed=5)
        computed: list[int] = []
        engine._model.register_forward_hook(lambda _, __, said: computed.append(len(said.logits)))
        return engine.decode(requests), computed

    (kept, of_all), (dropped, of_fewer) = decoded(1.0), decoded(0.25)
    assert [each.text for each in dropped] == [each.text for each in kept]
    assert [each.mean_logprob for each in dropped] == pytest.approx([each.mean_logprob for each in kept], abs=1e-5)
    assert set(of_all) == {6}
    assert (of_fewer[3], of_fewer[4]) == (6, 4)
