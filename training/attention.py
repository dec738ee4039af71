"""Causal attention for training on a CPU: what stays in memory between the passes is one half-precision matrix a head."""

from typing import Any

import torch
from transformers import AttentionInterface

NAME = "conclave_training"


class _CausalAttention(torch.autograd.Function):  # type: ignore[misc]  # torch does not type its Function
    """softmax(q kᵀ · scale + causal mask) v, all of shape (batch * heads, length, width).

    The backward pass is that of FlashAttention (Dao et al. 2022, appendix B.2, eq. 4-6) without its tiling: the row sums of
    dO * O stand for those of dP * P. transformers keeps several float32 matrices, a third slower (decision 0011).
    """

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
        length = q.shape[1]
        scaled = q * scale
        mask = torch.full((length, length), float("-inf"), dtype=q.dtype, device=q.device).triu_(1)
        weights = torch.softmax(torch.baddbmm(mask, scaled, k.transpose(1, 2)), -1)
        out = torch.bmm(weights, v)
        ctx.save_for_backward(scaled, k, v, weights, out)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        scaled, k, v, weights, out = ctx.saved_tensors
        for_v = torch.bmm(weights.transpose(1, 2), grad)
        for_scores = torch.bmm(grad, v.transpose(1, 2)).sub_((grad * out).sum(-1, keepdim=True)).mul_(weights)
        for_q = torch.bmm(for_scores, k).mul_(ctx.scale)
        for_k = torch.bmm(for_scores.transpose(1, 2), scaled)
        return for_q, for_k, for_v, None


def causal_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    """Causal attention over (batch, heads, length, width), in the precision of `v`."""
    shape = v.shape
    flat = (each.to(v.dtype).reshape(-1, *shape[2:]) for each in (q, k, v))
    out: torch.Tensor = _CausalAttention.apply(*flat, scale)
    return out.view(shape)


def _in_transformers(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """`attention_mask` is not looked at: batches are padded on the right, where the causal mask is enough."""
    return causal_attention(query, key, value, scaling).transpose(1, 2).contiguous(), None


def register() -> None:
    """Makes this attention known to transformers as `NAME`."""
    AttentionInterface.register(NAME, _in_transformers)
