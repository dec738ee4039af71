"""Many paths of each of some prompts at once, on PyTorch alone: the prompt is computed once, and its keys and values are shared.

For sampling a Llama-shaped model folder offline, without vLLM, on the GPU where there is one, else by one thread. The same paths
for the same seed on the same kind of device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from conclave.engine.protocol import Decoded
from conclave.prompts import Message
from schemas.values import FinishReason
from training.device import device


@dataclass(frozen=True, slots=True)
class _Prompts:
    """Prompts padded to one length: keys and values by layer, (prompts, heads, tokens, head size), and the logits that follow."""

    layers: list[tuple[Tensor, Tensor]]
    lengths: Tensor
    is_padding: Tensor  # (prompts, tokens)
    logits: Tensor

    def kept(self, keep: Tensor) -> "_Prompts":
        """Those of them at these places."""
        layers = [(keys[keep], values[keep]) for keys, values in self.layers]
        return _Prompts(layers, self.lengths[keep], self.is_padding[keep], self.logits[keep])


class SharedPromptEngine:
    """See the module's docstring."""

    def __init__(self, folder: Path, *, seed: int = 0) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._device = device()
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().to(self._device)
        config = self._model.config
        self._num_heads, self._head_size = config.num_attention_heads, config.head_dim
        assert config.num_key_value_heads == config.num_attention_heads, "grouped heads are not known here"

    def sample(
        self, prompts: Sequence[tuple[Message, ...]], num_samples: int, *, temperature: float, max_tokens: int
    ) -> list[list[Decoded]]:
        """So many paths of each prompt. Times are not measured: 0."""
        with torch.inference_mode():
            return self._sampled(prompts, num_samples, temperature, max_tokens)

    def _sampled(
        self, prompts: Sequence[tuple[Message, ...]], num_samples: int, temperature: float, max_tokens: int
    ) -> list[list[Decoded]]:
        ids = [self._ids(each) for each in prompts]
        prompt = self._prefilled(ids)
        own = self._empty(len(ids), num_samples, max_tokens)
        logits = prompt.logits[:, None].expand(-1, num_samples, -1)
        open_prompts = torch.arange(len(ids), device=self._device)
        is_open = torch.ones(len(ids), num_samples, dtype=torch.bool, device=self._device)
        tokens = torch.full((len(ids), num_samples, max_tokens), -1, device=self._device)
        logprobs = torch.zeros(len(ids), num_samples, max_tokens, device=self._device)
        for step in range(max_tokens):
            likely = logits.log_softmax(-1)
            drawn = torch.multinomial((likely / temperature).softmax(-1).flatten(0, 1), 1).view(logits.shape[:2])
            said = likely.gather(-1, drawn[..., None])[..., 0]
            tokens[open_prompts, :, step] = torch.where(is_open, drawn, -1)
            logprobs[open_prompts, :, step] = said.clamp(max=0.0)
            is_open &= drawn != self._tokenizer.eos_token_id
            are_open = is_open.any(1).tolist()  # waits for the device, which nothing else here does
            open_places = [place for place, is_one in enumerate(are_open) if is_one]
            if not open_places:
                break
            if len(open_places) < len(are_open):
                keep = torch.tensor(open_places, device=self._device)
                open_prompts, drawn, is_open, prompt = open_prompts[keep], drawn[keep], is_open[keep], prompt.kept(keep)
                own = [(keys[keep], values[keep]) for keys, values in own]
            logits = self._next(prompt, own, drawn, step)
        tokens, logprobs = tokens.cpu(), logprobs.cpu()
        return [
            [self._decoded(tokens[at, place], logprobs[at, place], len(ids[at])) for place in range(num_samples)]
            for at in range(len(ids))
        ]

    def _ids(self, messages: tuple[Message, ...]) -> list[int]:
        chat = [{"role": each.role, "content": each.content} for each in messages]
        text: str = self._tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        ids: list[int] = self._tokenizer(text)["input_ids"]
        return ids

    def _prefilled(self, ids: Sequence[list[int]]) -> "_Prompts":
        width = max(map(len, ids))
        said = [self._model(input_ids=torch.tensor([each], device=self._device), use_cache=True) for each in ids]
        missing = [width - len(each) for each in ids]
        layers = [
            tuple(
                torch.stack([
                    functional.pad(getattr(each.past_key_values.layers[number], name)[0], (0, 0, 0, left))
                    for each, left in zip(said, missing, strict=True)
                ])
                for name in ("keys", "values")
            )
            for number in range(len(self._model.model.layers))
        ]  # fmt: skip
        lengths = torch.tensor([len(each) for each in ids], device=self._device)
        return _Prompts(
            layers=[(keys, values) for keys, values in layers],
            lengths=lengths,
            is_padding=torch.arange(width, device=self._device)[None] >= lengths[:, None],
            logits=torch.stack([each.logits[0, -1] for each in said]),
        )

    def _empty(self, num_prompts: int, num_samples: int, max_tokens: int) -> list[tuple[Tensor, Tensor]]:
        shape = (num_prompts, num_samples, self._num_heads, max_tokens, self._head_size)
        keys, values = torch.zeros(2, self._model.config.num_hidden_layers, *shape, device=self._device)
        return list(zip(keys, values, strict=True))

    def _next(self, prompt: "_Prompts", own: list[tuple[Tensor, Tensor]], tokens: Tensor, step: int) -> Tensor:
        """The logits after one more token of each path, (prompts, samples, vocabulary); `own` takes its keys and values in."""
        model, (num_prompts, num_samples) = self._model.model, tokens.shape
        hidden = model.embed_tokens(tokens)
        cos, sin = model.rotary_emb(hidden[:, :1], prompt.lengths[:, None] + step)  # (prompts, 1, head size)
        cos, sin = cos[:, :, None], sin[:, :, None]
        for number, layer in enumerate(model.layers):
            normed, attention = layer.input_layernorm(hidden), layer.self_attn
            shape = (num_prompts, num_samples, self._num_heads, self._head_size)
            query, key, value = (
                project(normed).view(shape) for project in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            query, key = _rotated(query, cos, sin), _rotated(key, cos, sin)
            keys, values = own[number]
            keys[:, :, :, step], values[:, :, :, step] = key, value
            mixed = self._attended(query, keys[:, :, :, : step + 1], values[:, :, :, : step + 1], prompt, number)
            hidden = hidden + attention.o_proj(mixed.flatten(2))
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        logits: Tensor = self._model.lm_head(model.norm(hidden))
        return logits

    def _attended(self, query: Tensor, keys: Tensor, values: Tensor, prompt: "_Prompts", layer: int) -> Tensor:
        """What paths attend to: their prompt, which they share, and each its own tokens.

        `query`, and what is returned, (prompts, samples, heads, head size); `keys` (prompts, samples, heads, tokens, head size).
        """
        prompt_keys, prompt_values = prompt.layers[layer]
        shared = torch.einsum("qshd,qhpd->qshp", query, prompt_keys)
        shared = shared.masked_fill(prompt.is_padding[:, None, None], float("-inf"))
        owned = (keys @ query[..., None])[..., 0]
        weights = functional.softmax(torch.cat([shared, owned], -1) * self._head_size**-0.5, dim=-1)
        of_prompt, of_own = weights.split([shared.shape[-1], owned.shape[-1]], dim=-1)
        return torch.einsum("qshp,qhpd->qshd", of_prompt, prompt_values) + (of_own[..., None, :] @ values)[..., 0, :]

    def _decoded(self, drawn: Tensor, of: Tensor, num_prompt_tokens: int) -> Decoded:
        tokens = [token for token in drawn.tolist() if token >= 0]
        logprobs = of.tolist()[: len(tokens)]
        has_ended = bool(tokens) and tokens[-1] == self._tokenizer.eos_token_id
        pieces = [self._tokenizer.decode([token]) for token in tokens[: len(tokens) - has_ended]]
        return Decoded(
            text="".join(pieces),
            finish_reason=FinishReason.STOP if has_ended else FinishReason.LENGTH,
            tokens_in=num_prompt_tokens,
            tokens_out=len(tokens),
            mean_logprob=sum(logprobs) / max(1, len(logprobs)),
            min_logprob=min(logprobs, default=None),
            queued_ms=0.0,
            first_token_ms=0.0,
            total_ms=0.0,
            token_logprobs=tuple(logprobs),
            token_texts=(*pieces, "") if has_ended else tuple(pieces),
        )


def _rotated(vectors: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding, arXiv 2104.09864, with the two halves of a head as its pairs."""
    first, second = vectors.chunk(2, dim=-1)
    return vectors * cos + torch.cat([-second, first], dim=-1) * sin
