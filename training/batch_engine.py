"""vLLM as an engine that takes a batch at a time, for measuring offline."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conclave.engine.protocol import Decoded, DecodeRequest
from conclave.prompts import Message
from schemas.values import FinishReason


class VllmBatchEngine:
    """A model folder on vLLM, bound to one core where it runs on the CPU. Requests share what their prompts share."""

    def __init__(self, folder: Path, *, max_running: int = 192) -> None:
        _bind_to_one_core()
        from vllm import LLM

        self._llm = LLM(
            model=str(folder), dtype="auto", enforce_eager=True, max_num_seqs=max_running, disable_log_stats=True
        )
        self._tokenizer: Any = self._llm.get_tokenizer()

    def decode(self, requests: Sequence[DecodeRequest], *, logprobs: int | None = 0) -> list[Decoded]:
        """What each request came to, in their order. Times are not measured: 0. `logprobs`: so many beside the drawn token's."""
        from vllm import SamplingParams

        prompts = {messages: self._prompt(messages) for messages in {each.messages for each in requests}}
        params = [
            SamplingParams(
                temperature=each.temperature,
                top_p=each.top_p,
                max_tokens=each.max_tokens,
                logprobs=logprobs,
                stop=list(each.stop) or None,
            )
            for each in requests
        ]
        outputs = self._llm.generate([prompts[each.messages] for each in requests], params, use_tqdm=False)
        return [_decoded(output) for output in outputs]

    def _prompt(self, messages: tuple[Message, ...]) -> str:
        """The text that the model goes on from. A path that is gone on from stands there as it was said."""
        so_far = messages[-1].content if messages[-1].role == "assistant" else ""
        chat = [{"role": each.role, "content": each.content} for each in (messages[:-1] if so_far else messages)]
        text: str = self._tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        return text + so_far


def _decoded(output: Any) -> Decoded:
    path = output.outputs[0]
    return Decoded(
        text=path.text,
        finish_reason=FinishReason.LENGTH if path.finish_reason == "length" else FinishReason.STOP,
        tokens_in=len(output.prompt_token_ids),
        tokens_out=len(path.token_ids),
        mean_logprob=float(path.cumulative_logprob or 0.0) / max(1, len(path.token_ids)),
        min_logprob=None,
        queued_ms=0.0,
        first_token_ms=0.0,
        total_ms=0.0,
    )


def _bind_to_one_core() -> None:
    """This process and the engine core, its child, share the last core; before vLLM is imported."""
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", str(core))
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
