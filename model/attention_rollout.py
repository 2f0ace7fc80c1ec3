"""Attention rollout: Abnar, Zuidema, Quantifying Attention Flow in Transformers, ACL 2020, arXiv 2005.00928."""

from collections.abc import Callable, Sequence
from typing import Any

import torch


@torch.no_grad()
def attention_rollout(
    blocks: Sequence[Any], run: Callable[[], object], *, shares: torch.Tensor, num_prefix: int = 1
) -> torch.Tensor:
    """Computes how much every patch contributes to the embedding over all blocks (section 3 of the paper).

    A block mixes tokens by (A + I) / 2, with A the mean of its heads' attention and I the residual branch; the rollout
    is the product over the blocks. The fused kernel does not return attention: it is computed a second time here.

    Args:
        blocks: timm's blocks, each of which the tokens pass once.
        run: calls the model once, in eval mode.
        shares: (N,), share of every token after the blocks in the embedding; (1, 0, ..., 0) for the class token.
        num_prefix: tokens before the patch tokens.

    Returns:
        (B, P), the rows of the rollout weighted by `shares`, without the first `num_prefix` tokens, divided by its sum.
    """
    mixing: list[torch.Tensor] = []
    handles = [
        block.attn.register_forward_pre_hook(lambda attn, inputs: mixing.append(_mix(attn, inputs[0])))
        for block in blocks
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    rollout = mixing[0]  # (B, N, N)
    for matrix in mixing[1:]:
        rollout = matrix @ rollout  # later blocks from the left: row i says where token i comes from
    patches = (shares.to(rollout) @ rollout)[:, num_prefix:]  # (N,) @ (B, N, N) -> (B, P)
    return patches / patches.sum(dim=1, keepdim=True)


def _mix(attn: Any, tokens: torch.Tensor) -> torch.Tensor:
    """(A + I) / 2 of timm's attention module for its input (B, N, D); its rows sum to 1, as those of A do."""
    query, key, _ = attn.qkv(tokens).unflatten(2, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    query, key = attn.q_norm(query), attn.k_norm(key)  # (B, heads, N, head_dim)
    attention = (attn.scale * query @ key.transpose(-2, -1)).softmax(dim=-1).mean(dim=1)  # (B, N, N)
    return (attention + torch.eye(attention.shape[1], device=attention.device)) / 2
