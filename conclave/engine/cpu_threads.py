"""Binding the threads of a model that computes on a CPU inside vLLM's engine core: decision 0033."""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence

_CORES = re.compile(r"\d+(,\d+)*")  # what VLLM_CPU_OMP_THREADS_BIND must say for us to do as vLLM does


def bound_cores() -> tuple[str, ...]:
    """The cores that VLLM_CPU_OMP_THREADS_BIND lists one by one; () where it says anything else."""
    cores = os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "")
    return tuple(cores.split(",")) if _CORES.fullmatch(cores) else ()


@contextlib.contextmanager
def openmp_on(cores: Sequence[str]) -> Iterator[None]:
    """Binds the threads of the processes that are started meanwhile to `cores`; with none it does nothing.

    OpenMP reads its settings once, when it is loaded: this process has loaded it already, so nothing changes here. vLLM does
    the same for workers in processes of their own.
    """
    if not cores:
        yield
        return
    places = "{" + ",".join(cores) + "}"
    ours = {"OMP_NUM_THREADS": str(len(cores)), "OMP_PLACES": places, "OMP_PROC_BIND": "true"}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
