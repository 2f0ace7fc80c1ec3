"""Pretrained backbones: files of the TransReID codebase, of timm, of torchvision, or of timm's hub."""

import logging
import re
from typing import Any

import timm
from torch import nn

from model.vit import TransReIDViT
from model.weights.model_file import read_model_file
from model.weights.position_embeddings import find_grid, resize_position_embedding
from model.weights.state_dicts import State, num_rows
from model.weights.strict import load_strictly
from utils.errors import UserError

logger = logging.getLogger(__name__)

HUB = "timm:"  # prefix of the name of a model in timm's hub
# What a re-identification checkpoint has beside its backbone.
REID_HEADS = ("bottleneck", "classifier", "normalize.", "global_pool.", "b1.", "b2.")
_BLOCK = re.compile(r"blocks\.(\d{1,4})\.")
IMAGENET_CLASSES = 1000  # or more, in the head of an image classifier
# Extra tokens of vision transformers of another structure.
REGISTERS = ("reg_token", "register_tokens")


def load_pretrained(base: nn.Module, path: str, *, img_size: tuple[int, int] = (0, 0), entry: str = "") -> None:
    """Loads pretrained weights into a backbone, a TransReIDViT or a ResNetTrunk; position embeddings are resized.

    Args:
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
    is_transformer = isinstance(base, TransReIDViT)
    if ("conv1.weight" if is_transformer else "cls_token") in state:
        raise UserError(
            f"{source}: weights of a {'ResNet' if is_transformer else 'vision transformer'}, and MODEL.NAME is "
            f"{'transformer' if is_transformer else 'resnet50'}; give the weights of that, e.g. pretrained/"
            f"{'jx_vit_base_p16_224-80ecf9dd.pth' if is_transformer else 'resnet50-19c8e357.pth'}, or '' for random "
            "weights"
        )
    if isinstance(base, TransReIDViT):
        state = _fit_transformer(base, state, source, stored=stored, img_size=img_size, from_reid=from_reid)
    kept = {f"base.{name}" for name in state} if from_reid else set(state)
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


def _is_classifier(state: State) -> bool:
    """Whether a backbone's file has the head of an image classifier, such as one of ImageNet's classes."""
    return any(num_rows(state.get(f"{head}.weight")) >= IMAGENET_CLASSES for head in ("head", "fc"))


def _fit_transformer(
    base: TransReIDViT,
    state: State,
    source: str,
    *,
    stored: dict[str, Any],
    img_size: tuple[int, int],
    from_reid: bool,
) -> State:
    """Fits a state dict to the backbone: resizes the positions, drops a distillation token, reshapes the patch
    projection of older files, which is a linear layer."""
    state = dict(state)
    num_prefix = 2 if state.pop("dist_token", None) is not None else 1
    projection = state.get("patch_embed.proj.weight")
    own = base.patch_embed.proj.weight
    if projection is not None and projection.shape == own.flatten(1).shape:  # (D, 3 p p)
        state["patch_embed.proj.weight"] = projection = projection.reshape(own.shape)
    side = state.get("sie_embed")
    if side is not None and (base.sie_embed is None or base.sie_embed.shape != side.shape):
        logger.info("%s: side information of another data set (%d vectors) is left out", source, num_rows(side))
        del state["sie_embed"]
    positions, width = state.get("pos_embed"), own.shape[0]
    fits = projection is not None and projection.shape == own.shape and not any(name in state for name in REGISTERS)
    # load_strictly reports every other difference
    if fits and positions is not None and positions.ndim == 3 and positions.shape[::2] == (1, width):
        grid_size, count = base.patch_embed.grid_size, positions.shape[1] - num_prefix
        from_grid = find_grid(
            count,
            patch_size=own.shape[-1],
            own=grid_size,
            own_stride=base.patch_embed.proj.stride,
            stored=stored,
            given_size=img_size,
            square=False if from_reid else _is_classifier(state) or None,
            source=source,
        )
        if from_grid != grid_size:
            logger.info("%s: positions resized from %d x %d to %d x %d patches", source, *from_grid, *grid_size)
        state["pos_embed"] = resize_position_embedding(
            positions.float(), grid_size, from_grid=from_grid, num_prefix=num_prefix
        )
    return state
