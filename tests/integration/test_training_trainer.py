"""The training command, for seconds instead of hours."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]
_TINY = """
import sys
from pathlib import Path
from training.trainee import Recipe
from training.trainer import train
train(Path(sys.argv[1]), Recipe(hidden=24, layers=1, heads=2, ffn=32, tokens_per_batch=512, minutes=float(sys.argv[2])),
      checkpoint_every_s=1.0)
"""


def _start(folder: Path, minutes: float) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, "-c", _TINY, str(folder), str(minutes)],
        cwd=_CHECKOUT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _steps(output: str) -> list[tuple[int, int]]:
    return [(int(step), int(used)) for step, used in re.findall(r"step (\d+) used (\d+) s", output)]


def test_a_training_that_is_killed_goes_on_from_its_checkpoint_and_leaves_a_model_that_loads(tmp_path: Path) -> None:
    # Here, as its import takes ten seconds and more, and each process that shares the tests reads this file.
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "model"
    with _start(folder, 60.0) as first:
        deadline = time.monotonic() + 120
        seen = ""
        assert first.stdout is not None
        while not _steps(seen) and time.monotonic() < deadline:
            seen += first.stdout.readline()
        first.send_signal(signal.SIGKILL)
    (step, used_s), *_ = _steps(seen)
    assert (folder / "checkpoint.pt").exists()
    with _start(folder, (used_s + 3) / 60) as second:
        said, _ = second.communicate(timeout=120)
    assert second.returncode == 0
    last_step, last_used_s = _steps(said)[-1]
    assert last_step > step, "the steps of the run before were forgotten"
    assert last_used_s >= used_s
    assert not (folder / "checkpoint.pt").exists()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.get_input_embeddings().num_embeddings == len(tokenizer)
