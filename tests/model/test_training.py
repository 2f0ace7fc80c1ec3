"""What SOLVER.COMPILE changes: nothing but the speed."""

import copy

import pytest
import torch

from config import load_cfg
from model.reid import TransformerReID
from model.training import set_up_training
from model.vit import TransReIDViT
from model.vit_sizes import ViTSize

SIZE = ViTSize(patch_size=16, embed_dim=32, depth=1, num_heads=2)


@pytest.fixture
def plain():
    torch.manual_seed(0)
    base = TransReIDViT((32, 32), SIZE, num_cameras=3)
    return TransformerReID(base, num_classes=4, test_feature="class_token")


@torch.no_grad()
def embed(model, amp):
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", amp, enabled=amp is not None):
        return model.encode(images, torch.arange(8) % 3, torch.zeros(8, dtype=torch.int64)).embedding


def error(found, expected):
    return (found - expected).abs().max().item()


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # of torch's own
def test_compiled_models_compute_in_the_precision_that_is_asked_for(plain, tmp_path, monkeypatch):
    """The first one's graph is in torch's cache on disk by the time of the second."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    exact = embed(plain, None)
    for name, amp in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        torch.compiler.reset()
        compiled = set_up_training(load_cfg(opts=["SOLVER.COMPILE", "True", "SOLVER.AMP", name]), copy.deepcopy(plain))
        assert error(embed(compiled, amp), exact) == pytest.approx(error(embed(plain, amp), exact), rel=0.2)
