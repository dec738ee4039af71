"""A model folder on PyTorch alone, as an engine that takes a batch at a time: for measuring without vLLM.

It runs on the GPU where there is one. It shares nothing between prompts, knows no `top_p` but 1, and draws the same paths for
the same seed and requests on the same kind of device.
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
from training.device import device

_MAX_RUNNING = {
    "cpu": 128,
    "cuda": 2048,
}  # a token of each of so many: about as long as of one on an H100, and 3 GB of cache
_MOST_FINISHED = (
    0.25  # of the rows that are computed; then the finished ones are dropped, which costs about as much as a token
)


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

    def __init__(self, folder: Path, *, max_running: int | None = None, seed: int = 0) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        self._device = device()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().to(self._device)
        self._max_running = max_running or _MAX_RUNNING[self._device.type]
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
        """Decodes rows to their ends, all of them a token at a time. Those that have ended are computed in vain until they are
        dropped."""
        ids, mask = self._padded([row.prompt for row in rows])
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        places, num_begun = torch.arange(len(rows), device=self._device), len(rows)
        temperatures = torch.tensor([[row.request.temperature] for row in rows], device=self._device)
        cache: Any = None
        while True:
            said = self._model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache, logprobs = said.past_key_values, said.logits[:, -1].log_softmax(-1)
            ids = _drawn(logprobs, temperatures, self._noise(num_begun)[places])
            self._take(rows, ids, logprobs)
            going = [index for index, row in enumerate(rows) if row.finish is None]
            if not going:
                return
            positions = positions[:, -1:] + 1
            mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
            if len(going) <= (1 - _MOST_FINISHED) * len(rows):
                rows, kept = [rows[index] for index in going], torch.tensor(going, device=self._device)
                cache.batch_select_indices(kept)
                ids, mask, positions, places, temperatures = (
                    each[kept] for each in (ids, mask, positions, places, temperatures)
                )

    def _padded(self, prompts: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens, (prompts, longest), which end together, and 1 where they are of the prompt, 0 where they are padding."""
        width, pad = max(map(len, prompts)), self._tokenizer.pad_token_id or 0
        ids = torch.tensor([[pad] * (width - len(each)) + each for each in prompts])
        mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in prompts])
        return ids.to(self._device), mask.to(self._device)

    def _noise(self, num_rows: int) -> torch.Tensor:
        """Exponential noise, (rows, vocabulary). Drawn for rows that were dropped too: so what a row draws does not depend on when
        others end."""
        return torch.empty(num_rows, self._model.config.vocab_size, device=self._device).exponential_()

    def _take(self, rows: Sequence[_Row], drawn: torch.Tensor, logprobs: torch.Tensor) -> None:
        """Each row that has not ended goes on with its token. Waits for the device, once."""
        of_drawn = logprobs.gather(1, drawn)
        fetched = torch.cat(
            [drawn.to(of_drawn.dtype), of_drawn], dim=1
        ).tolist()  # float32 holds a vocabulary's numbers
        for row, (token, logprob) in zip(rows, fetched, strict=True):
            if row.finish is None:
                row.take(self._piece(int(token)), logprob)

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


def _drawn(logprobs: torch.Tensor, temperatures: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """A token for each row, (rows, 1), at its temperature; the likeliest at 0.

    An exponential race, as torch.multinomial draws: a token wins with its probability where each divides its own by its noise.
    """
    raced = (logprobs / temperatures.clamp(min=1e-3)).softmax(-1) / noise
    return torch.where(temperatures > 0.0, raced, logprobs).argmax(-1, keepdim=True)


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
