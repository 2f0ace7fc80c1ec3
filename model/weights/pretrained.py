"""Pretrained backbones: files of the TransReID codebase, of timm, of torchvision, or of timm's hub."""

import logging
import re
from typing import Any

import timm

from model.weights.file_kind import Pretrained
from model.weights.file_kinds import FILE_KINDS, kind_in_file
from model.weights.model_file import read_model_file
from model.weights.state_dicts import State
from model.weights.strict import load_strictly
from utils.errors import UserError

logger = logging.getLogger(__name__)

HUB = "timm:"  # prefix of the name of a model in timm's hub
# What a re-identification checkpoint has beside its backbone.
REID_HEADS = ("bottleneck", "classifier", "normalize.", "global_pool.", "b1.", "b2.")
_BLOCK = re.compile(r"blocks\.(\d{1,4})\.")


def load_pretrained(base: Any, path: str, *, img_size: tuple[int, int] = (0, 0), entry: str = "") -> None:
    """Loads pretrained weights into a backbone; position embeddings are resized.

    Args:
        base: the backbone; its `kind` is one of model/kinds.py.
        path: a file of TransReID, timm or torchvision, a re-identification checkpoint (its backbone is read), or
            timm:NAME.
        img_size: MODEL.PRETRAIN_SIZE, height and width of the images that the file was trained on, for a file that
            does not tell; (0, 0) for none.
        entry: MODEL.CHECKPOINT_ENTRY.

    Raises:
        UserError: the file is missing, unreadable, or does not fit; no parameter silently keeps its random value.
    """
    source = f"MODEL.PRETRAIN_PATH {path}"
    if path.startswith(HUB):
        state, stored = _from_hub(path.removeprefix(HUB))
    else:
        file = read_model_file(path, entry=entry)
        state, stored = file.state, file.config
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
    state = own.fit(base, state, Pretrained(source, stored, img_size, from_reid))
    kept = {f"base.{name}" if from_reid else name for name in [*state, *renamed]}
    load_strictly(base, state, source=source, optional=("sie_embed",), left_out=tuple(sorted(names - kept)))


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


def _from_hub(name: str) -> tuple[State, dict[str, Any]]:
    """Weights of timm's hub, and their image size as the key of a stored configuration."""
    if not timm.is_model(name.split(".")[0]):
        raise UserError(f"MODEL.PRETRAIN_PATH {HUB}{name}: timm has no model of this name; timm.list_models() has them")
    try:
        model = timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:  # huggingface_hub's errors are OSErrors or ValueErrors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"MODEL.PRETRAIN_PATH {HUB}{name}: cannot be fetched ({reason}); without a network, download "
            f"model.safetensors of timm/{name} from the Hugging Face hub on another machine, put it to "
            f"pretrained/{name}.safetensors and set MODEL.PRETRAIN_PATH to that"
        ) from error
    img_size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    return model.state_dict(), {"INPUT.SIZE_TEST": list(img_size)} if img_size else {}
