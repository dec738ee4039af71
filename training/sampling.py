"""Paths from a model folder through vLLM, for measuring: offline, a batch at a time."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from conclave import prompts
from training.corpus import MAX_PATH_TOKENS, PROMPT_SET

Fields = dict[str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """One path. `mean_logprob` is over its tokens, in nats."""

    text: str
    answer: str | None
    num_tokens: int
    mean_logprob: float


class Model(Protocol):
    """What the measures need of a model."""

    def ask(
        self,
        form: str,
        fields: Sequence[Fields],
        *,
        n: int = 1,
        temperature: float = 0.8,
        said: Sequence[str] = (),
    ) -> list[list[Sample]]:
        """`n` paths for each set of fields, in their order; `said` is what each path has said so far."""


class VllmModel:
    """A `Model` on vLLM, bound to one core where it runs on the CPU."""

    def __init__(self, folder: Path, *, max_running: int = 192) -> None:
        _bind_to_one_core()
        from vllm import LLM

        self._llm = LLM(
            model=str(folder), dtype="auto", enforce_eager=True, max_num_seqs=max_running, disable_log_stats=True
        )
        self._tokenizer: Any = self._llm.get_tokenizer()
        self._set = prompts.load(PROMPT_SET)

    def ask(
        self,
        form: str,
        fields: Sequence[Fields],
        *,
        n: int = 1,
        temperature: float = 0.8,
        said: Sequence[str] = (),
    ) -> list[list[Sample]]:
        """See `Model`."""
        from vllm import SamplingParams

        if not fields:
            return []
        shape = self._set.form(form)
        texts = [self._chat(shape.render(each).messages[-1].content) for each in fields]
        if said:
            texts = [text + so_far for text, so_far in zip(texts, said, strict=True)]
        params = SamplingParams(
            n=n, temperature=temperature, max_tokens=MAX_PATH_TOKENS, logprobs=0, stop=list(shape.stop) or None
        )
        outputs = self._llm.generate(texts, params, use_tqdm=False)
        return [[_sample(path, shape) for path in output.outputs] for output in outputs]

    def _chat(self, content: str) -> str:
        text: str = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        return text


def _sample(path: Any, form: prompts.Form) -> Sample:
    num_tokens = len(path.token_ids)
    mean_logprob = float(path.cumulative_logprob or 0.0) / max(1, num_tokens)
    return Sample(path.text, form.extract(path.text), num_tokens, mean_logprob)


def _bind_to_one_core() -> None:
    """This process and the engine core, its child, share the last core; before vLLM is imported."""
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", str(core))
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
