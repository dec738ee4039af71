"""A model folder on PyTorch alone, as an engine that takes a batch at a time: for measuring without vLLM.

It shares nothing between prompts, knows no `top_p` but 1, and draws the same paths for the same seed and requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from conclave.engine.protocol import Decoded, DecodeRequest
from conclave.prompts import Message
from schemas.values import FinishReason


@dataclass
class _Row:
    """A path under way: what it says so far, and the sum of its tokens' log probabilities."""

    request: DecodeRequest
    prompt: list[int]
    text: str = ""
    num_tokens: int = 0
    logprob: float = 0.0
    finish: FinishReason | None = None

    def take(self, piece: str | None, logprob: float) -> None:
        """Goes on with a piece of text; None is the end of the text."""
        self.num_tokens += 1
        self.logprob += logprob
        if piece is None:
            self.finish = FinishReason.STOP
            return
        self.text += piece
        ends = [at for stop in self.request.stop if (at := self.text.find(stop)) >= 0]
        if ends:
            self.text, self.finish = self.text[: min(ends)], FinishReason.STOP
        elif self.num_tokens >= self.request.max_tokens:
            self.finish = FinishReason.LENGTH


class TorchBatchEngine:
    """See the module's docstring. One thread."""

    def __init__(self, folder: Path, *, max_running: int = 128, seed: int = 0) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
        self._max_running = max_running
        self._pieces: dict[int, str] = {}

    def decode(self, requests: Sequence[DecodeRequest]) -> list[Decoded]:
        """What each request came to, in their order. Times are not measured: 0. Raises: ValueError for another top_p than 1."""
        if any(each.top_p != 1.0 for each in requests):
            raise ValueError("top_p: only 1 is known here")
        prompts = {messages: self._prompt(messages) for messages in {each.messages for each in requests}}
        rows = [_Row(each, prompts[each.messages]) for each in requests]
        # Like lengths together: what is padded is computed in vain.
        order = sorted(range(len(rows)), key=lambda index: len(rows[index].prompt))
        for start in range(0, len(order), self._max_running):
            with torch.inference_mode():
                self._finish([rows[index] for index in order[start : start + self._max_running]])
        return [_decoded(row) for row in rows]

    def _finish(self, rows: list[_Row]) -> None:
        """Decodes rows to their ends, all of them a token at a time."""
        width = max(len(row.prompt) for row in rows)
        pad = self._tokenizer.pad_token_id or 0
        ids = torch.tensor([[pad] * (width - len(row.prompt)) + row.prompt for row in rows])
        mask = torch.tensor([[0] * (width - len(row.prompt)) + [1] * len(row.prompt) for row in rows])
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        cache: Any = None
        while True:
            said = self._model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            )
            cache, logprobs = said.past_key_values, said.logits[:, -1].log_softmax(-1)
            chosen = self._chosen(rows, logprobs)
            for row, token, logprob in zip(
                rows, chosen.tolist(), logprobs.gather(1, chosen[:, None])[:, 0].tolist(), strict=True
            ):
                if row.finish is None:
                    row.take(self._piece(token), logprob)
            if all(row.finish is not None for row in rows):
                return
            ids, positions = chosen[:, None], positions[:, -1:] + 1
            mask = torch.cat([mask, torch.ones_like(ids)], dim=1)

    @staticmethod
    def _chosen(rows: Sequence[_Row], logprobs: torch.Tensor) -> torch.Tensor:
        """A token for each row, drawn at its temperature; the likeliest at 0."""
        temperatures = torch.tensor([[row.request.temperature] for row in rows])
        drawn = torch.multinomial((logprobs / temperatures.clamp(min=1e-3)).softmax(-1), 1)[:, 0]
        return torch.where(temperatures[:, 0] > 0.0, drawn, logprobs.argmax(-1))

    def _prompt(self, messages: tuple[Message, ...]) -> list[int]:
        """The tokens that the model goes on from, as the vLLM engine has them."""
        so_far = messages[-1].content if messages[-1].role == "assistant" else ""
        chat = [{"role": each.role, "content": each.content} for each in (messages[:-1] if so_far else messages)]
        text: str = self._tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        ids: list[int] = self._tokenizer(text + so_far)["input_ids"]
        return ids

    def _piece(self, token: int) -> str | None:
        """A token's text; None for one that ends the text."""
        if token == self._tokenizer.eos_token_id:
            return None
        if token not in self._pieces:
            self._pieces[token] = self._tokenizer.decode([token])
        return self._pieces[token]


def _decoded(row: _Row) -> Decoded:
    return Decoded(
        text=row.text,
        finish_reason=row.finish or FinishReason.LENGTH,
        tokens_in=len(row.prompt),
        tokens_out=row.num_tokens,
        mean_logprob=min(0.0, row.logprob / max(1, row.num_tokens)),
        min_logprob=None,
        queued_ms=0.0,
        first_token_ms=0.0,
        total_ms=0.0,
    )
