"""Where models run: on the GPU where there is one."""

import torch


def device() -> torch.device:
    """The first GPU, else the CPU. Matrices are multiplied there in float32 as it is, not rounded to TF32: figures are of the model
    that ships."""
    torch.set_float32_matmul_precision("highest")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
