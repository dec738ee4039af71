"""From lessons to token ids: the tokenizer, its chat template, and batches with their loss masks."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from conclave import prompts
from training.generator import Split, generate
from training.skills import STAGES, Lesson, Skill, Stage, lesson, stage_at

PROMPT_SET = "reasoner-v3"
PAD, USER, ASSISTANT, SYSTEM, END = "<|pad|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"
SPECIALS = (PAD, USER, ASSISTANT, SYSTEM, END)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% if not (loop.last and continue_final_message is defined and continue_final_message) %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MAX_PATH_TOKENS = 448  # no lesson has more to say
# What the tokenizer sees: the stage with the most even shares of all skills, without what is no word problem. Our own phrases are
# its words; a text of any other kind falls into letters, which tells the two apart from the first token on.
_BROADEST = replace(
    STAGES[1],
    shares={skill: share for skill, share in STAGES[1].shares.items() if skill is not Skill.DECLINE},
    retold_share=0.0,
)
IGNORED = -100  # label of a token that is not learnt


def train_tokenizer(folder: Path, *, vocab_size: int = 1024, num_lessons: int = 4000) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on lessons: any text encodes, digits stand alone. Saved in `folder`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d|\n|[-+*/=()#:;,_>]|[A-Z][a-z]*|[^-+*/=()#:;,_>\dA-Z\n]+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(num_lessons), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=AddedToken(PAD, special=True),
        eos_token=AddedToken(END, special=True),
        additional_special_tokens=[USER, ASSISTANT, SYSTEM],
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    return fast


def _texts(num_lessons: int) -> Iterator[str]:
    for each in islice(lessons(0, _BROADEST), num_lessons):
        yield prompt_of(each)
        yield "".join(piece.text for piece in each.completion)


def lessons(seed: int, stage: Stage = STAGES[-1]) -> Iterator[Lesson]:
    """Endless lessons on problems of the training side, the same for the same seed."""
    rng = random.Random(f"lessons-{seed}")
    for problem in generate(seed, Split.TRAIN, max_steps=stage.max_steps):
        yield lesson(problem, rng, stage)


def prompt_of(each: Lesson) -> str:
    """The user's message of a lesson; of bare arithmetic the claims to check, if any."""
    if each.skill is Skill.CALCULATE:
        return each.fields.get("claims", "")
    return prompts.load(PROMPT_SET).form(each.skill.value).render(each.fields).messages[-1].content


@dataclass(frozen=True, slots=True)
class Batch:
    """Token ids and labels, each of shape (examples, length)."""

    ids: torch.Tensor
    labels: torch.Tensor


def encode(tokenizer: PreTrainedTokenizerFast, each: Lesson) -> tuple[list[int], list[int]]:
    """Token ids and labels of a lesson: only what the model is to say is learnt, its end included."""
    pieces = [(f"{USER}{prompt_of(each)}{END}{ASSISTANT}", True)]
    pieces += [(piece.text, piece.is_given) for piece in each.completion]
    pieces.append((END, False))
    ids: list[int] = []
    labels: list[int] = []
    for text, is_given in pieces:
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids += tokens
        labels += [IGNORED] * len(tokens) if is_given else tokens
    return ids, labels


def batches(
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    *,
    tokens_per_batch: int,
    stages: Sequence[Stage] = STAGES[-1:],
    used: Callable[[], float] = lambda: 0.0,
    max_length: int = 768,
) -> Iterator[Batch]:
    """Endless batches of about `tokens_per_batch` tokens, padded little because each holds lessons of like length.

    `used` is asked now and then which share of the training's time is over, and so in which of the `stages` it is, which
    scales the batches.
    """
    sources = {each.until: lessons(seed, each) for each in stages}
    rng = random.Random(f"batches-{seed}")
    pad = tokenizer.pad_token_id
    while True:
        current = stage_at(used(), stages)
        size = tokens_per_batch * current.batch_scale
        pool = sorted(
            (encode(tokenizer, each) for each in islice(sources[current.until], 512)), key=lambda pair: len(pair[0])
        )
        pool = [pair for pair in pool if len(pair[0]) <= max_length]
        groups: list[list[tuple[list[int], list[int]]]] = [[]]
        for pair in pool:
            if groups[-1] and (len(groups[-1]) + 1) * len(pair[0]) > size:
                groups.append([])
            groups[-1].append(pair)
        rng.shuffle(groups)
        for group in groups:
            length = max(len(ids) for ids, _ in group)
            yield Batch(
                torch.tensor([ids + [pad] * (length - len(ids)) for ids, _ in group]),
                torch.tensor([labels + [IGNORED] * (length - len(labels)) for _, labels in group]),
            )
