"""What a GPU decodes at most, computed from its data sheet. Pure.

A roofline (Williams, Waterman and Patterson, 2009): a step of decoding reads every weight and the KV cache of all that run, and
multiplies each weight once for each of them; it takes as long as the slower of the two. Real engines stay below it: what comes out
is a bound, not a measurement.
"""

from collections.abc import Mapping
from dataclasses import dataclass

_MEMORY_SHARE = 0.9  # of the memory, that an engine takes for weights and cache (vLLM's default)


@dataclass(frozen=True, slots=True)
class Gpu:
    """By its vendor's data sheet: memory, its bandwidth, and dense bfloat16 operations (none that count zeros)."""

    memory_gb: float
    bandwidth_gb_s: float
    bf16_tflops: float


GPUS: Mapping[str, Gpu] = {
    "l4": Gpu(24, 300, 121),
    "l40s": Gpu(48, 864, 362),
    "a100-80gb": Gpu(80, 2039, 312),
    "h100": Gpu(80, 3350, 989),
    "h200": Gpu(141, 4800, 989),
}


@dataclass(frozen=True, slots=True)
class Model:
    """What is decoded: parameters, bytes of each, and bytes of KV cache for a token."""

    parameters: float
    bytes_per_parameter: float = 2.0
    kv_bytes_per_token: float = 131_072.0  # 32 layers, 8 heads of 128 for keys and values, 2 bytes: Llama 3 8B

    @property
    def num_bytes(self) -> float:
        """Bytes of all weights."""
        return self.parameters * self.bytes_per_parameter


def most_running(gpu: Gpu, model: Model, context_tokens: float) -> int:
    """How many sequences of that length fit at once; 0 where not even the weights do."""
    left = _MEMORY_SHARE * gpu.memory_gb * 1e9 - model.num_bytes
    return max(0, int(left / (context_tokens * model.kv_bytes_per_token)))


def step_s(gpu: Gpu, model: Model, running: float, context_tokens: float) -> float:
    """Seconds that a token of each of those that run takes, at least."""
    num_bytes = model.num_bytes + running * context_tokens * model.kv_bytes_per_token
    return max(num_bytes / (gpu.bandwidth_gb_s * 1e9), 2 * model.parameters * running / (gpu.bf16_tflops * 1e12))
