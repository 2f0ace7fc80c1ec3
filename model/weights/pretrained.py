"""Pretrained backbones: files of the TransReID codebase, of timm, of torchvision, or of a hub."""

import re
from typing import Any

from model.weights.file_kind import Pretrained
from model.weights.file_kinds import FILE_KINDS, kind_in_file
from model.weights.hub import is_hub_name, read_hub
from model.weights.model_file import read_model_file
from model.weights.state_dicts import State
from model.weights.strict import load_strictly
from utils.errors import UserError

# What a re-identification checkpoint has beside its backbone.
REID_HEADS = ("bottleneck", "classifier", "fcneck.", "normalize.", "global_pool.", "b1.", "b2.")
_BLOCK = re.compile(r"blocks\.(\d{1,4})\.")


def load_pretrained(
    base: Any, path: str, *, img_size: tuple[int, int] = (0, 0), hw_ratio: int = 0, entry: str = ""
) -> None:
    """Loads pretrained weights into a backbone; position embeddings are resized.

    Args:
        base: the backbone; its `kind` is one of model/kinds.py.
        path: a file of TransReID, timm or torchvision, a re-identification checkpoint (its backbone is read), or a
            name of model/weights/hub.py.
        img_size: MODEL.PRETRAIN_SIZE, height and width of the images that the file was trained on, for a file that
            does not tell; (0, 0) for none.
        hw_ratio: MODEL.PRETRAIN_HW_RATIO, rows over columns of the file's patches; 0 for none.
        entry: MODEL.CHECKPOINT_ENTRY.

    Raises:
        UserError: the file is missing, unreadable, or does not fit; no parameter silently keeps its random value.
    """
    source = f"MODEL.PRETRAIN_PATH {path}"
    read = read_hub if is_hub_name(path) else read_model_file
    file = read(path, entry=entry, names=base.state_dict().keys())
    state = file.state
    from_reid = any(name.startswith("base.") for name in state)
    names = set(state)
    if from_reid:
        state = _backbone_of(state)
    own, found = FILE_KINDS[base.kind], kind_in_file(state)
    if not own.has_any_names and found is not None and found is not own:
        raise UserError(
            f"{source}: weights of {found.title}, and the model is {own.title}; set MODEL.NAME to {found.example}, "
            f"or give weights of {own.title}, or '' for random weights"
        )
    renamed = own.renamed(base, state)
    state = own.fit(base, state, Pretrained(source, file.config, img_size, hw_ratio, from_reid))
    kept = {f"base.{name}" if from_reid else name for name in [*state, *renamed]}
    left_out = tuple(sorted(names - kept)) + file.left_out
    load_strictly(base, state, source=source, optional=("sie_embed",), left_out=left_out)


def _backbone_of(state: State) -> State:
    """The backbone in the state of a re-identification model; with JPM, its global branch is the last block."""
    backbone = {name.removeprefix("base."): value for name, value in state.items() if not name.startswith(REID_HEADS)}
    if "b1.1.weight" in state:
        last = max((int(found[1]) for name in backbone if (found := _BLOCK.match(name))), default=0)
        branch = {name: value for name, value in state.items() if name.startswith(("b1.0.", "b1.1."))}
        for name, value in branch.items():
            layer, rest = name.removeprefix("b1.").split(".", 1)
            backbone[f"blocks.{last}.{rest}" if layer == "0" else f"norm.{rest}"] = value
    return backbone
