"""torch's Muon on a processor that does not multiply bfloat16 in hardware."""

import torch
from torch.optim import _muon


def orthogonalise_in_float32() -> None:
    """Has every Muon of this process orthogonalise in float32.

    torch rounds to bfloat16 first, and such a processor then takes five times as long for a step of the training. torch offers no
    way around it, so its function is replaced by name.
    """
    _muon._zeropower_via_newtonschulz = orthogonalised


def orthogonalised(
    grad: torch.Tensor, coefficients: tuple[float, float, float], num_steps: int, eps: float
) -> torch.Tensor:
    """A matrix with the singular vectors of `grad` and singular values near 1 (Newton-Schulz, Jordan et al. 2024), in float32."""
    a, b, c = coefficients
    is_tall = grad.shape[0] > grad.shape[1]
    found = grad.float().T if is_tall else grad.float()
    found = found / found.norm().clamp(min=eps)
    for _ in range(num_steps):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.T if is_tall else found
