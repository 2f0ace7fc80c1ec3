"""Attention rollout against a plain loop over images, blocks, heads and tokens."""

import pytest
import torch

from model.jigsaw import JigsawReID, JigsawSettings
from model.reid import TransformerReID
from model.vit import TransReIDViT
from model.vit_sizes import ViTSize

SIZES = {
    "plain": ViTSize(24, 3, 3),
    "vit_small": ViTSize(24, 3, 2, qkv_bias=False, attention_scale=24**-0.5),  # of the whole width, and no bias
}
IMAGES, CAMIDS = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 2])


def make(size="plain", *, jigsaw=False, stride=(16, 16)):
    torch.manual_seed(0)
    base = TransReIDViT((64, 48), SIZES[size], stride=stride, num_cameras=3)
    model = JigsawReID(base, JigsawSettings(), num_classes=4) if jigsaw else TransformerReID(base, num_classes=4)
    for name, parameter in model.named_parameters():
        if "qkv" in name:  # random weights attend almost evenly, and every mistake would pass
            torch.nn.init.normal_(parameter, std=0.6)
    return model.eval()


def attention_by_hand(block, size, tokens):
    """The mean over the heads, (N, N), for the tokens (N, D) of one image."""
    tokens = block.norm1(tokens)
    weight, bias = block.attn.qkv.weight, block.attn.qkv.bias
    projected = tokens @ weight.T + (bias if bias is not None else 0)
    width = size.embed_dim // size.num_heads
    scale = width**-0.5 if size.attention_scale is None else size.attention_scale
    mean = torch.zeros(len(tokens), len(tokens))
    for head in range(size.num_heads):
        query = projected[:, head * width : (head + 1) * width]
        key = projected[:, size.embed_dim + head * width : size.embed_dim + (head + 1) * width]
        for row in range(len(tokens)):
            scores = torch.exp(scale * (key @ query[row]))
            mean[row] += scores / scores.sum() / size.num_heads
    return mean


def rollout_by_hand(model, blocks, size):
    """Share of every patch in every token, (B, N, N), as the paper's section 3 has it."""
    rolled = []
    tokens = model.base.patch_embed(model.normalize(IMAGES))
    tokens = torch.cat([model.base.cls_token.expand(2, -1, -1), tokens], dim=1) + model.base.pos_embed
    for image in tokens + 3 * model.base.sie_embed[CAMIDS]:
        state, rollout = image[None], torch.eye(len(image))
        for block in blocks:
            mixed = 0.5 * attention_by_hand(block, size, state[0]) + 0.5 * torch.eye(len(image))
            rollout = mixed @ rollout
            state = block(state)
        rolled.append(rollout)
    return torch.stack(rolled)


@pytest.mark.parametrize("stride", [(16, 16), (12, 12)])
@pytest.mark.parametrize("jigsaw", [False, True])
@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_maps_by_a_plain_loop(size, jigsaw, stride):
    model = make(size, jigsaw=jigsaw, stride=stride)
    blocks = [*model.base.blocks[:2], model.b1[0] if jigsaw else model.base.blocks[2]]
    rollout = rollout_by_hand(model, blocks, SIZES[size])
    torch.testing.assert_close(rollout.sum(dim=2), torch.ones(rollout.shape[:2]))
    shares = rollout[:, 0, 1:] / (1 - rollout[:, 0, :1])
    maps = model.attend(IMAGES, CAMIDS)
    assert maps.shape == (2, *model.base.patch_embed.grid_size)
    torch.testing.assert_close(maps.flatten(1), shares, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(maps.sum(dim=(1, 2)), torch.ones(2))
    assert maps.max() > 1.5 * maps.mean()  # there is something to see


def test_a_map_does_not_depend_on_the_batch():
    model = make()
    alone = model.attend(IMAGES[1:], CAMIDS[1:])
    torch.testing.assert_close(model.attend(IMAGES, CAMIDS)[1:], alone)


@pytest.mark.parametrize("jigsaw", [False, True])
def test_a_rollout_leaves_the_model_as_it_was(jigsaw, monkeypatch):
    model = make(jigsaw=jigsaw)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    feature = model.extract(IMAGES, CAMIDS)
    kernel, calls, inside = torch.nn.functional.scaled_dot_product_attention, [], []
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or kernel(*a, **k)
    )
    embed = model.embed
    monkeypatch.setattr(model, "embed", lambda *inputs: inside.append(embed(*inputs)) or inside[0])
    maps = model.attend(IMAGES, CAMIDS)
    assert not maps.requires_grad
    assert len(calls) == (2 + 1 + 4 if jigsaw else 3)  # the fused kernel, for every block and each of the parts
    monkeypatch.undo()
    torch.testing.assert_close(inside[0].embedding, model.encode(IMAGES, CAMIDS).embedding, rtol=0, atol=0)
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert torch.equal(model.extract(IMAGES, CAMIDS), feature)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_hooks_are_gone_after_a_failure(monkeypatch):
    model = make()
    monkeypatch.setattr(model.base.blocks[1], "forward", lambda *inputs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.attend(IMAGES, CAMIDS)
    assert not any(module._forward_pre_hooks for module in model.modules())
