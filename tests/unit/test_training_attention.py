"""The attention that the reasoner is trained with."""

import torch

from training.attention import causal_attention

SHAPE = (2, 3, 7, 4)  # batch, heads, length, width


def drawn(num: int, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(SHAPE, generator=generator, dtype=dtype).requires_grad_() for _ in range(num)]


def test_it_is_causal_softmax_attention() -> None:
    q, k, v = drawn(3, torch.float32)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3)
    torch.testing.assert_close(causal_attention(q, k, v, 0.3), expected)


def test_its_gradients_are_those_of_its_formula() -> None:
    assert torch.autograd.gradcheck(lambda q, k, v: causal_attention(q, k, v, 0.3), drawn(3, torch.float64))


def test_it_works_in_the_precision_of_the_values() -> None:
    q, k, v = drawn(3, torch.float32)
    assert causal_attention(q, k, v.bfloat16(), 0.3).dtype is torch.bfloat16
