"""What SOLVER.GRAD_CHECKPOINT and COMPILE change: memory and speed, not results."""

import copy

import pytest
import torch

from config import load_cfg
from model import check, make_ema, make_model
from model.reid import TransformerReID
from model.training import set_up_training
from model.vit import TransReIDViT
from model.vit_sizes import ViTSize
from tests.model.test_cfat import COUNTS, SMALL, make_batch
from utils.errors import UserError

SIZE = ViTSize(patch_size=16, embed_dim=32, depth=1, num_heads=2)
RANDOM_LAYERS = ["MODEL.DROP_PATH", "0.4", "MODEL.DROP_OUT", "0.1", "MODEL.ATT_DROP_RATE", "0.1"]
CHECKPOINT = ["SOLVER.GRAD_CHECKPOINT", "True"]


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
def test_compiled_models_compute_in_the_configured_precision(plain, tmp_path, monkeypatch):
    """The first one's graph is in torch's cache on disk when the second is compiled."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    exact = embed(plain, None)
    for name, amp in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        torch.compiler.reset()
        compiled = set_up_training(load_cfg(opts=["SOLVER.COMPILE", "True", "SOLVER.AMP", name]), copy.deepcopy(plain))
        assert error(embed(compiled, amp), exact) == pytest.approx(error(embed(plain, amp), exact), rel=0.2)


class SavedBytes:
    """Counts the bytes that forward stores for backward, parameters left out."""

    def __init__(self):
        self.sizes = {}

    def pack(self, tensor):
        if not isinstance(tensor, torch.nn.Parameter):
            self.sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    @property
    def total(self):
        return sum(self.sizes.values())


def step(*opts):
    """Gradients, averaged weights and stored bytes of one step from seed 0."""
    cfg = load_cfg(opts=[*SMALL, *RANDOM_LAYERS, "SOLVER.EMA_DECAY", "0.9", *opts])
    torch.manual_seed(0)
    model = make_model(cfg, **COUNTS).train()
    ema, saved = make_ema(cfg, model), SavedBytes()
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
        output = model(make_batch())
    outputs = (output.logits, *output.local_logits, output.patch_tokens)
    sum(value.square().mean() for value in outputs).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    ema.update(model)
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return gradients, ema.module.state_dict(), saved.total


@pytest.mark.parametrize(
    "opts",
    [
        ["CFAT.STAGE", "clean"],
        ["CFAT.STAGE", "clean", "MODEL.JPM", "True"],
        ["CFAT.STAGE", "align", "CFAT.STUDENT_VIEWS", "both"],
    ],
    ids=["vit", "jpm", "cfat"],
)
def test_gradient_checkpointing_gives_the_same_gradients_from_less_memory(opts):
    (gradients, averages, stored), (found, found_averages, less) = step(*opts), step(*opts, *CHECKPOINT)
    assert gradients.keys() == found.keys()
    assert all(torch.equal(found[name], value) for name, value in gradients.items())
    assert all(torch.equal(found_averages[name], value) for name, value in averages.items())
    assert less < stored / 3


def test_a_resnet_refuses_gradient_checkpointing():
    cfg = load_cfg(opts=["MODEL.NAME", "resnet50", "CFAT.STAGE", "clean", *CHECKPOINT])
    for call in (lambda: check(cfg), lambda: make_model(cfg, **COUNTS)):
        with pytest.raises(UserError, match=r"SOLVER.GRAD_CHECKPOINT True: .*BatchNorm.*Set it to False"):
            call()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_batch_norm_of_several_processes(device, monkeypatch, caplog):
    """A stem of convolutions has BatchNorm layers; torch synchronises those on GPUs alone."""
    monkeypatch.setattr("utils.distributed.world_size", lambda: 2)
    monkeypatch.setattr("model.training.pick_device", torch.device)
    base = TransReIDViT((32, 32), SIZE, stem_conv=True)
    model = TransformerReID(base, num_classes=4)
    set_up_training(load_cfg(opts=["MODEL.DEVICE", device, "SOLVER.GLOBAL_LOSS", "False"]), model)
    synchronised = {name for name, module in model.named_modules() if isinstance(module, torch.nn.SyncBatchNorm)}
    conv = "base.patch_embed.conv"
    assert synchronised == ({f"{conv}.1.BN", f"{conv}.4.BN", f"{conv}.7"} if device == "cuda" else set())
    assert ("each process normalises by its own part of a batch" in caplog.text) == (device == "cpu")
