"""The training's Muon in float32: what torch computes in bfloat16, more exactly."""

import pytest
import torch
from torch.optim import _muon

from training.muon import orthogonalised

_TORCHS = _muon._zeropower_via_newtonschulz
_COEFFICIENTS = (3.4445, -4.775, 2.0315)


@pytest.mark.parametrize("shape", [(24, 16), (16, 24), (16, 16)])
def test_it_comes_to_what_torch_comes_to_within_the_rounding_of_bfloat16(shape: tuple[int, int]) -> None:
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found, expected = orthogonalised(grad, _COEFFICIENTS, 5, 1e-7), _TORCHS(grad, _COEFFICIENTS, 5, 1e-7)
    assert found.dtype is torch.float32
    assert torch.allclose(found, expected.float(), atol=0.03)
    singular = torch.linalg.svdvals(found)
    assert 0.5 < singular.min().item() <= singular.max().item() < 1.5
