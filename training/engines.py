"""The engines that measurements decode by, each by its name."""

from collections.abc import Callable, Mapping
from pathlib import Path

from training.decoding import BatchEngine


def _torch(folder: Path) -> BatchEngine:
    from training.torch_engine import TorchBatchEngine

    return TorchBatchEngine(folder)


def _vllm(folder: Path) -> BatchEngine:
    from training.batch_engine import VllmBatchEngine

    return VllmBatchEngine(folder)


# Each imports what it needs when it is asked for, which takes seconds.
ENGINES: Mapping[str, Callable[[Path], BatchEngine]] = {
    "vllm": _vllm,
    "torch": _torch,  # without vLLM, and on the GPU where there is one
}
