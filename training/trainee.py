"""The model while it is trained: what one batch teaches it, and how it is kept."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from training import attention, muon
from training.corpus import IGNORED, MAX_PATH_TOKENS, Batch
from training.device import device


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights, besides the code and the clock."""

    seed: int = 1
    hidden: int = 192
    layers: int = 4
    heads: int = 6
    ffn: int = 512
    tokens_per_batch: int = 4096
    peak_lr: float = 6e-3
    end_lr: float = 2e-4
    warmup_steps: int = 100
    minutes: float = 90.0


@dataclass(slots=True)
class Trainee:
    """A model with its optimizers. `step` counts batches learnt, `used_s` the seconds spent on them, earlier runs' included."""

    model: LlamaForCausalLM
    optimizers: tuple[torch.optim.Optimizer, ...]
    device: str
    precision: torch.dtype
    step: int = 0
    used_s: float = 0.0

    @classmethod
    def new(cls, recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Self:
        """A model that knows nothing, on the GPU where there is one; from torch's own randomness."""
        return cls._of(LlamaForCausalLM(_config(recipe, tokenizer)))

    @classmethod
    def going_on(cls, folder: Path) -> Self:
        """The model in `folder`, with optimizers that have seen nothing yet."""
        return cls._of(LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32))

    @classmethod
    def _of(cls, model: LlamaForCausalLM) -> Self:
        precision = _precision(device().type)
        if precision is torch.float32:
            muon.orthogonalise_in_float32()
        attention.register()
        model = model.to(device())
        model.set_attn_implementation(attention.NAME)
        return cls(model, _optimizers(model), device().type, precision)

    def learn(self, batch: Batch, lr: float) -> float:
        """Takes one step of the optimizers with this learning rate; returns the loss before it."""
        with torch.autocast(self.device, self.precision, enabled=self.precision is not torch.float32):
            loss = _loss(self.model, batch.ids.to(self.device), batch.labels.to(self.device))
        _update(self.model, self.optimizers, loss, lr)
        self.step += 1
        return float(loss.item())

    def resume(self, checkpoint: Path) -> None:
        """Goes on from a checkpoint if there is one."""
        if not checkpoint.exists():
            return
        state = torch.load(checkpoint, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.used_s = int(state["step"]), float(state["used_s"])

    def save(self, folder: Path, checkpoint: Path) -> None:
        """Writes the checkpoint, whole or not at all, and the model as it is served to `folder`."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [each.state_dict() for each in self.optimizers],
            "step": self.step,
            "used_s": self.used_s,
        }
        torch.save(state, checkpoint.with_suffix(".new"))
        checkpoint.with_suffix(".new").replace(checkpoint)
        self.model.generation_config = GenerationConfig(
            temperature=0.8,
            top_p=1.0,
            do_sample=True,
            max_new_tokens=MAX_PATH_TOKENS,
            eos_token_id=self.model.config.eos_token_id,
            pad_token_id=self.model.config.pad_token_id,
        )
        self.model.save_pretrained(folder)


def _config(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.ffn,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )


def _optimizers(model: LlamaForCausalLM) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices of the layers, AdamW for embeddings and norms.

    Muon (Jordan et al. 2024) with its step scaled to AdamW's as in Liu et al. 2025, so that both share a learning rate;
    why not AdamW alone: docs/decisions/0011.
    """
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
    others = [p for name, p in model.named_parameters() if not (p.ndim == 2 and ".layers." in name)]
    return (
        torch.optim.Muon(matrices, weight_decay=0.01, ns_steps=4, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    )


def _precision(device: str) -> torch.dtype:
    """bfloat16 where the machine multiplies it in hardware, else float32."""
    if device == "cuda":
        return torch.bfloat16
    flags = Path("/proc/cpuinfo")
    has = flags.exists() and any(flag in flags.read_text() for flag in ("avx512_bf16", "amx_bf16"))
    return torch.bfloat16 if has else torch.float32


def _loss(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of the tokens to learn; logits are made for these only."""
    # Right-padded under a causal mask: what is padded is seen by no token that counts, so no attention mask is needed.
    states = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    following = labels[:, 1:]
    wanted = following != IGNORED
    return torch.nn.functional.cross_entropy(model.lm_head(states[wanted]).float(), following[wanted])


def _update(
    model: LlamaForCausalLM, optimizers: tuple[torch.optim.Optimizer, ...], loss: torch.Tensor, lr: float
) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
