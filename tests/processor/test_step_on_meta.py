"""The step on a meta device in place of a GPU: reading a value, which would wait for the GPU, is an error there, and so
is mixing tensors of the CPU with those of the device."""

import pytest
import torch

from loss import make_loss
from model import make_model
from processor.batches import to_device
from processor.step import TrainStep
from solver import make_optimizer
from tests.processor.small_run import CPU, make_cfg, make_data

META = torch.device("meta")
NUM_VIEWS = 2
SETTINGS = {
    "clean": ["CFAT.STAGE", "clean", "MODEL.SIE_CAMERA", "True", "SOLVER.GRAD_CLIP", "1.0"],
    "jpm": ["CFAT.STAGE", "clean", "MODEL.JPM", "True", "MODEL.IF_WITH_CENTER", "True", "TEST.FEATURE", "neck"],
    "self_id": ["CFAT.STAGE", "corrupted", "INPUT.SELF_ID", "True"],
    "arcface": ["CFAT.STAGE", "clean", "MODEL.ID_LOSS_TYPE", "arcface", "MODEL.METRIC_LOSS_TYPE", "wrtriplet"],
    "circle": ["CFAT.STAGE", "clean", "MODEL.ID_LOSS_TYPE", "circle", "MODEL.NO_MARGIN", "False"],
    "bridge": ["CFAT.STAGE", "bridge", "CFAT.FINE.NOISE", "0.1", "CFAT.FINE.BRIDGE_T", "image"],
    "align": ["CFAT.STAGE", "align", "CFAT.COSINE.CLASS_WEIGHT", "1.0", "CFAT.COSINE.PATCH_WEIGHT", "1.0"],
    "align_both": ["CFAT.STAGE", "align", "CFAT.STUDENT_VIEWS", "both", "CFAT.COARSE.EXCLUDE_SAME_IDENTITY", "True"],
    "resnet": ["CFAT.STAGE", "clean", "MODEL.NAME", "resnet50", "TEST.FEATURE", "neck"],
}


@pytest.fixture(params=SETTINGS)
def cfg(request, tmp_path):
    return make_cfg(tmp_path, "MODEL.DROP_PATH", "0.2", *SETTINGS[request.param])


def make(cfg):
    model = make_model(cfg, num_classes=4, num_cameras=3, num_views=1).train()
    return model, make_loss(cfg, num_classes=4, feat_dim=model.embed_dim)


def make_batch(cfg):
    batch = next(iter(make_data()[0].train))
    if cfg.INPUT.SELF_ID:
        batch["augmented"] = batch["images"][:, None].repeat(1, NUM_VIEWS, 1, 1, 1)
    return to_device(batch, META)


def step_on_meta(cfg, make_loss_fn=lambda loss_fn: loss_fn):
    model, loss_fn = (part.to(META) for part in make(cfg))
    loss_fn = make_loss_fn(loss_fn)
    optimizer = make_optimizer(cfg, model, loss_fn)
    step = TrainStep(model, loss_fn, optimizer, device=CPU, grad_clip=cfg.SOLVER.GRAD_CLIP)
    for _ in range(2):
        values = step(make_batch(cfg))
    return values


def test_a_step_reads_no_value(cfg):
    values = step_on_meta(cfg)
    assert {"loss", "grad_norm", "accuracy"} <= set(values)
    assert {value.device for value in values.values()} == {META}


def test_a_checkpointed_step_looks_at_no_value(tmp_path):
    cfg = make_cfg(tmp_path, "MODEL.DROP_PATH", "0.2", "SOLVER.GRAD_CHECKPOINT", "True", *SETTINGS["align_both"])
    assert {value.device for value in step_on_meta(cfg).values()} == {META}


def test_a_loss_that_reads_a_value_is_noticed(tmp_path):
    class Reading(torch.nn.Module):
        def __init__(self, loss_fn):
            super().__init__()
            self.loss_fn = loss_fn

        def forward(self, output, batch):
            losses = self.loss_fn(output, batch)
            return losses if losses["loss"] > 0 else {}

    with pytest.raises(RuntimeError, match="meta tensors"):
        step_on_meta(make_cfg(tmp_path, *SETTINGS["clean"]), Reading)
