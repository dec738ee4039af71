"""Trains the reasoner from nothing: resumable, checkpointed, seeded; on a GPU where there is one."""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from conclave import prompts
from conclave.reasoner.corpus import (
    ASSISTANT,
    END,
    IGNORED,
    MAX_PATH_TOKENS,
    PROMPT_SET,
    USER,
    batches,
    train_tokenizer,
)
from conclave.reasoner.generator import development


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights, besides the code and the clock."""

    seed: int = 1
    hidden: int = 192
    layers: int = 4
    heads: int = 6
    ffn: int = 512
    tokens_per_batch: int = 4096
    first_tokens_per_batch: int = 2048  # steps count for more than a smooth gradient while copying is learnt
    peak_lr: float = 6e-3
    end_lr: float = 2e-4
    warmup_steps: int = 100
    first_share: float = 0.15  # of the time, for the first lessons of the curriculum
    minutes: float = 70.0


def train(folder: Path, recipe: Recipe, *, checkpoint_every_s: float = 300.0) -> None:
    """Trains for `recipe.minutes` in all, resumed runs counted together, and leaves weights and tokenizer in `folder`.

    The learning rate follows the share of the time that is used up (warm-up, then cosine), so a slower machine makes
    fewer steps but ends as smoothly.
    """
    torch.manual_seed(recipe.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(folder)
    model = LlamaForCausalLM(_config(recipe, tokenizer)).to(device)
    optimizers = _optimizers(model)
    precision = _precision(device)
    state_file = folder / "checkpoint.pt"
    step, used_s = _resume(state_file, model, optimizers, device)
    budget_s = recipe.minutes * 60
    source = batches(
        tokenizer,
        recipe.seed + step,
        tokens_per_batch=recipe.tokens_per_batch,
        first_tokens_per_batch=recipe.first_tokens_per_batch,
        is_first=lambda: used_s < recipe.first_share * budget_s,
    )
    saved_at = last = time.monotonic()
    loss_mean, accuracy = 0.0, 0.0
    with _progress() as progress:
        bar = progress.add_task("train", total=budget_s, completed=int(used_s), loss="-", accuracy="-", steps=step)
        for batch in source:
            share = min(1.0, used_s / budget_s)
            with torch.autocast(device, precision, enabled=precision is not torch.float32):
                loss = _loss(model, batch.ids.to(device), batch.labels.to(device))
            _update(model, optimizers, loss, _lr(recipe, step, share))
            step += 1
            loss_mean = loss.item() if step == 1 else 0.98 * loss_mean + 0.02 * loss.item()
            now = time.monotonic()
            used_s, last = used_s + now - last, now
            if now - saved_at > checkpoint_every_s or used_s >= budget_s:
                accuracy = held_out_accuracy(model, tokenizer, device)
                _save(folder, state_file, model, optimizers, step, used_s)
                saved_at = time.monotonic()
                progress.console.print(f"step {step} used {used_s:.0f} s loss {loss_mean:.4f} held-out {accuracy:.1%}")
            progress.update(bar, completed=used_s, loss=f"{loss_mean:.3f}", accuracy=f"{accuracy:.0%}", steps=step)
            if used_s >= budget_s:
                break
    state_file.unlink(missing_ok=True)


def held_out_accuracy(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, device: str, *, num: int = 64
) -> float:
    """Share of development problems that one path, sampled at temperature 0.8, gets right."""
    problems = development(num)
    form = prompts.load(PROMPT_SET).form("chain_of_thought")
    texts = [
        f"{USER}{form.render({'question': problem.question}).messages[-1].content}{END}{ASSISTANT}"
        for problem in problems
    ]
    tokenizer.padding_side = "left"
    inputs = tokenizer(
        texts, return_tensors="pt", padding=True, add_special_tokens=False, return_token_type_ids=False
    ).to(device)
    model.eval()
    with torch.no_grad():
        outputs = model.generate(**inputs, max_new_tokens=MAX_PATH_TOKENS, do_sample=True, temperature=0.8)
    model.train()
    said = tokenizer.batch_decode(outputs[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return (
        sum(form.extract_answer(text) == str(problem.answer) for text, problem in zip(said, problems, strict=True))
        / num
    )


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
        attn_implementation="eager",
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


def _lr(recipe: Recipe, step: int, share: float) -> float:
    if step < recipe.warmup_steps:
        return recipe.peak_lr * (step + 1) / recipe.warmup_steps
    return recipe.end_lr + (recipe.peak_lr - recipe.end_lr) * 0.5 * (1 + math.cos(math.pi * share))


def _resume(
    file: Path, model: LlamaForCausalLM, optimizers: tuple[torch.optim.Optimizer, ...], device: str
) -> tuple[int, float]:
    if not file.exists():
        return 0, 0.0
    state = torch.load(file, map_location=device, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return int(state["step"]), float(state["used_s"])


def _save(
    folder: Path,
    file: Path,
    model: LlamaForCausalLM,
    optimizers: tuple[torch.optim.Optimizer, ...],
    step: int,
    used_s: float,
) -> None:
    state = {
        "model": model.state_dict(),
        "optimizers": [each.state_dict() for each in optimizers],
        "step": step,
        "used_s": used_s,
    }
    torch.save(state, file.with_suffix(".new"))
    file.with_suffix(".new").replace(file)
    model.generation_config = GenerationConfig(
        temperature=0.8,
        top_p=1.0,
        do_sample=True,
        max_new_tokens=MAX_PATH_TOKENS,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    model.save_pretrained(folder)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("step {task.fields[steps]} loss {task.fields[loss]} held-out {task.fields[accuracy]}"),
        TimeRemainingColumn(),
    )
