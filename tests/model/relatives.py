"""Reference models of the codebase's relatives: arrays and settings from tests/golden, or from the directory that the
environment variable CFAT_GOLDEN names; and steps that every backbone must train."""

import copy
import gzip
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from loss import make_loss
from model import make_model
from model.reid import ReIDModel
from solver import make_optimizer
from tests.helpers import GOLDEN

# A directory with pretrained_tiny.npz and .json: reference models with other seeds, and all full-size names.
ELSEWHERE = os.environ.get("CFAT_GOLDEN", "")


def load_cases(
    family: str | tuple[str, ...], stored: str = "pretrained_tiny_swin_clip"
) -> tuple[dict[str, dict[str, Any]], dict[str, np.ndarray]]:
    """Settings of the reference models whose names begin with `family`, and arrays; `stored`: of our own files."""
    name = "pretrained_tiny" if ELSEWHERE else stored
    folder = Path(ELSEWHERE) if ELSEWHERE else GOLDEN
    cases = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["cases"]
    cases = {case: settings for case, settings in cases.items() if case.startswith(family)}
    with np.load(folder / f"{name}.npz") as arrays:
        return cases, {key: arrays[key] for key in arrays.files if key.split("/")[0] in cases}


def load_full_size(family: str | tuple[str, ...], stored: str = "full_size_swin_clip") -> dict[str, list]:
    """[name, shape] of every tensor of released files, by file, at full size."""
    if ELSEWHERE:
        found = json.loads((Path(ELSEWHERE) / "pretrained_tiny.json").read_text(encoding="utf-8"))["full_size"]
    else:
        found = json.loads(gzip.decompress((GOLDEN / f"{stored}.json.gz").read_bytes()))
    return {name: shapes for name, shapes in found.items() if name.startswith(family)}


def case_state(cases: dict, arrays: dict, case: str) -> dict[str, torch.Tensor]:
    """The state dict of a reference model; one that stores only what differs takes the rest from `state_of`."""
    own = state_below(arrays, f"{case}/state/")
    origin = cases[case].get("state_of")
    if origin is None:
        return own
    names = cases[case]["state_names"]
    return {name: own[name] if name in own else tensor(arrays, origin, f"state/{name}") for name in names}


def state_below(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, torch.Tensor]:
    return {name[len(prefix) :]: torch.tensor(value) for name, value in arrays.items() if name.startswith(prefix)}


def tensor(arrays: dict, case: str, name: str) -> torch.Tensor:
    return torch.tensor(arrays[f"{case}/{name}"])


def case_tensor(cases: dict, arrays: dict, case: str, name: str) -> torch.Tensor:
    """An array of a case, or of the case that it takes its state from."""
    return tensor(arrays, case if f"{case}/{name}" in arrays else cases[case]["state_of"], name)


def options_of(settings: dict, *opts: str) -> list[str]:
    """Options of a configuration that a case's settings give, with pixels as they are and features as computed."""
    height, width = settings["size"]
    feature = {"before": "class_token", "after": "neck"}[settings["neck_feat"]]
    return [
        *("INPUT.SIZE_TRAIN", f"[{height}, {width}]", "INPUT.SIZE_TEST", f"[{height}, {width}]"),
        *("INPUT.PIXEL_MEAN", "[0.0, 0.0, 0.0]", "INPUT.PIXEL_STD", "[1.0, 1.0, 1.0]", "TEST.FEAT_NORM", "False"),
        *("TEST.FEATURE", feature, "CFAT.STAGE", "clean", "MODEL.PRETRAIN_PATH", ""),
        *("MODEL.SIE_CAMERA", str(settings["settings"]["SIE_CAMERA"])),
        *("MODEL.SIE_VIEW", str(settings["settings"]["SIE_VIEW"]), *opts),
    ]


def expanded(shapes: list) -> dict[str, torch.Tensor]:
    """A state dict of names and shapes whose tensors take no memory: each is one number, expanded."""
    state = {}
    for number, (name, shape) in enumerate(shapes):
        value = (
            torch.tensor(5) if name.endswith(("num_batches_tracked", "_index")) else torch.tensor(0.5 + number / 1e3)
        )
        state[name] = value.expand(shape)
    return state


# Names of files that no feature of ours uses.
UNUSED = re.compile(
    r"classifier|^head\.|^(base|backbone)\.norm[012]\.|semantic_embed_[wb]\.3|_index$|^prompt_learner|^text_encoder"
)


def differing(model: ReIDModel, state: dict[str, torch.Tensor], prefix: str) -> list[str]:
    """Names under which the backbone has other values than a file of equal names, its own below `prefix`."""
    own = model.base.state_dict()
    return [name for name, value in own.items() if not torch.equal(value, state[prefix + name].to(value.dtype))]


def train_step(cfg: Any, *, num_cameras: int = 4) -> list[str]:
    """Trains the stage of `cfg` for a step; the names of learning parameters that it did not change."""
    torch.manual_seed(0)
    model = make_model(cfg, num_classes=3, num_cameras=num_cameras, num_views=1).train()
    loss_fn = make_loss(cfg, num_classes=3, feat_dim=model.embed_dim)
    optimizer = make_optimizer(cfg, model, loss_fn)
    before = {name: value.clone() for name, value in model.named_parameters() if value.requires_grad}
    batch = make_batch(cfg, num_cameras)
    loss = loss_fn(model(batch), batch)["loss"]
    assert loss.isfinite()
    loss.backward()
    optimizer.step()
    after = dict(model.named_parameters())
    return [name for name, value in before.items() if torch.equal(value, after[name])]


def make_batch(cfg: Any, num_cameras: int, rows: int = 6) -> dict[str, torch.Tensor]:
    images, corrupted = torch.rand(2, rows, 3, *cfg.INPUT.SIZE_TRAIN)
    camids = torch.arange(rows) % num_cameras
    sides = {"camids": camids, "viewids": torch.zeros_like(camids), "pids": torch.arange(rows) // 2}
    return {"images": images, "corrupted": corrupted, **sides}


def gradients_with_and_without_checkpoint(cfg: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Pairs of gradients of every learning parameter of a model of stage clean, drop path sampling the same masks."""
    torch.manual_seed(0)
    plain = make_model(cfg, num_classes=3, num_cameras=4, num_views=1).train()
    recomputing = copy.deepcopy(plain)
    recomputing.base.set_grad_checkpointing()
    batch, pairs = make_batch(cfg, 4), []
    for model in (plain, recomputing):
        torch.manual_seed(1)
        output = model(batch)
        (output.logits.square().sum() + output.embedding.square().sum()).backward()
    for one, other in zip(plain.parameters(), recomputing.parameters(), strict=True):
        if one.grad is not None:
            pairs.append((one.grad, other.grad))
    return pairs
