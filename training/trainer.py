"""Trains the reasoner from nothing: resumable, checkpointed, seeded; on a GPU where there is one."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import PreTrainedTokenizerFast

from conclave import prompts
from training import attention
from training.corpus import ASSISTANT, END, MAX_PATH_TOKENS, PROMPT_SET, USER, Batch, batches, train_tokenizer
from training.generator import development
from training.skills import REFINING, STAGES, Stage
from training.trainee import Recipe, Trainee


def train(folder: Path, recipe: Recipe, *, checkpoint_every_s: float = 300.0) -> None:
    """Trains for `recipe.minutes` in all, resumed runs counted together, and leaves weights and tokenizer in `folder`.

    The learning rate follows the share of the time that is used up (warm-up, then cosine), so a slower machine makes
    fewer steps but ends as smoothly.
    """
    torch.manual_seed(recipe.seed)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(folder)
    _learn(Trainee.new(recipe, tokenizer), tokenizer, recipe, folder, STAGES, checkpoint_every_s)


def refine(start: Path, folder: Path, recipe: Recipe, *, checkpoint_every_s: float = 300.0) -> None:
    """Goes on from the model in `start`, with new optimizers, for `recipe.minutes`; leaves what it comes to in `folder`.

    It learns by the lessons of `REFINING` all the time, at the recipe's learning rates: a warm-up, then cosine.
    """
    torch.manual_seed(recipe.seed)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(start)
    tokenizer.save_pretrained(folder)
    _learn(Trainee.going_on(start), tokenizer, recipe, folder, (REFINING,), checkpoint_every_s)


def _learn(
    trainee: Trainee,
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    folder: Path,
    stages: Sequence[Stage],
    save_every_s: float,
) -> None:
    """Learns until the time is used up, from the checkpoint in `folder` if there is one; saves now and then and at the end."""
    checkpoint = folder / "checkpoint.pt"
    trainee.resume(checkpoint)
    budget_s = recipe.minutes * 60
    source = batches(
        tokenizer,
        recipe.seed + trainee.step,
        tokens_per_batch=recipe.tokens_per_batch,
        stages=stages,
        used=lambda: trainee.used_s / budget_s,
    )
    with _progress() as progress:
        _learn_from(
            source, trainee, tokenizer, recipe, progress, lambda: trainee.save(folder, checkpoint), save_every_s
        )
    checkpoint.unlink(missing_ok=True)


def _learn_from(
    source: Iterator[Batch],
    trainee: Trainee,
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    progress: Progress,
    save: Callable[[], None],
    save_every_s: float,
) -> None:
    budget_s = recipe.minutes * 60
    bar = progress.add_task(
        "train", total=budget_s, completed=int(trainee.used_s), loss="-", accuracy="-", steps=trainee.step
    )
    saved_at = last = time.monotonic()
    loss_mean: float | None = None
    while trainee.used_s < budget_s:
        loss = trainee.learn(next(source), _lr(recipe, trainee.step, trainee.used_s / budget_s))
        loss_mean = loss if loss_mean is None else 0.98 * loss_mean + 0.02 * loss
        now = time.monotonic()
        trainee.used_s, last = trainee.used_s + now - last, now
        if now - saved_at > save_every_s or trainee.used_s >= budget_s:
            accuracy = f"{held_out_accuracy(trainee, tokenizer):.0%}"
            save()
            saved_at = time.monotonic()
            done = f"step {trainee.step} used {trainee.used_s:.0f} s"
            progress.console.print(f"{done} loss {loss_mean:.4f} held-out {accuracy}")
            progress.update(bar, accuracy=accuracy)
        progress.update(bar, completed=trainee.used_s, loss=f"{loss_mean:.3f}", steps=trainee.step)


def held_out_accuracy(trainee: Trainee, tokenizer: PreTrainedTokenizerFast, *, num: int = 64) -> float:
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
    ).to(trainee.device)
    model = trainee.model
    model.eval()
    model.set_attn_implementation("eager")  # the batch is padded on the left
    with torch.no_grad():
        outputs = model.generate(**inputs, max_new_tokens=MAX_PATH_TOKENS, do_sample=True, temperature=0.8)
    model.set_attn_implementation(attention.NAME)
    model.train()
    said = tokenizer.batch_decode(outputs[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return sum(form.extract(text) == str(problem.answer) for text, problem in zip(said, problems, strict=True)) / num


def _lr(recipe: Recipe, step: int, share: float) -> float:
    if step < recipe.warmup_steps:
        return recipe.peak_lr * (step + 1) / recipe.warmup_steps
    return recipe.end_lr + (recipe.peak_lr - recipe.end_lr) * 0.5 * (1 + math.cos(math.pi * share))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("step {task.fields[steps]} loss {task.fields[loss]} held-out {task.fields[accuracy]}"),
        TimeRemainingColumn(),
    )
