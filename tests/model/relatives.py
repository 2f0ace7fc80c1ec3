"""Reference models of the codebase's relatives: arrays and settings from tests/golden, or from the directory in CFAT_GOLDEN."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.helpers import GOLDEN

# A directory with pretrained_tiny.npz and .json: reference models with other seeds, and all full-size names.
ELSEWHERE = os.environ.get("CFAT_GOLDEN", "")


def load_cases(
    family: str | tuple[str, ...], stored: str = "pretrained_tiny_swin_clip"
) -> tuple[dict[str, dict[str, Any]], dict[str, np.ndarray]]:
    """Settings of the reference models whose names begin with `family`, and their arrays; `stored` are our own files."""
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
    return {name: own[name] if name in own else tensor(arrays, origin, f"state/{name}") for name in _names(cases[case])}


def _names(settings: dict) -> list[str]:
    return settings["state_names"]


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
