"""Models of timm in files: their keys, and pretrained ones fitted to a model by timm's own functions."""

import inspect
import logging
import math
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models import _builder
from yacs.config import CfgNode

from model.timm_backbone import OWN_STRIDE, TimmBackbone, classifiers
from model.timm_reid import TimmReID
from model.timm_structure import timm_structure
from model.weights.file_kind import FileKind, Pretrained, Values
from model.weights.model_file import ModelFile
from model.weights.position_embeddings import find_grid
from model.weights.state_dicts import State, num_rows
from model.weights.vit_files import check_image_size
from utils.errors import UserError

logger = logging.getLogger(__name__)

KEYS = ("MODEL.TRANSFORMER_TYPE", "MODEL.STRIDE_SIZE", "MODEL.SIE_CAMERA", "MODEL.SIE_VIEW", "MODEL.JPM")
CLIP_PROJECTION = "proj"  # in OpenAI's files
Filter = Callable[..., Mapping[str, torch.Tensor]]


def _keys(cfg: CfgNode, file: ModelFile, backbone: State, stored: Values) -> Values:
    name = stored.get("MODEL.TRANSFORMER_TYPE", cfg.MODEL.TRANSFORMER_TYPE)
    stride = list(stored.get("MODEL.STRIDE_SIZE", cfg.MODEL.STRIDE_SIZE))
    try:
        structure = timm_structure(name, tuple(cfg.INPUT.SIZE_TEST), tuple(stride))
    except UserError as error:
        raise UserError(f"checkpoint {file.path}: {error}") from error
    if structure.has_image_size:
        check_image_size(cfg, file)
    found = {
        "MODEL.NAME": "timm",
        "MODEL.TRANSFORMER_TYPE": name,
        "MODEL.STRIDE_SIZE": stride,
        "MODEL.JPM": False,
    }
    if "sie_embed" not in backbone or not (cfg.MODEL.SIE_CAMERA or cfg.MODEL.SIE_VIEW):
        found |= {"MODEL.SIE_CAMERA": False, "MODEL.SIE_VIEW": False}
    return found


def _relevant_keys(values: Values) -> list[str]:
    side = ["MODEL.SIE_COE"] if values.get("MODEL.SIE_CAMERA") or values.get("MODEL.SIE_VIEW") else []
    return [*KEYS, *side]


def _describe(found: Values) -> list[str]:
    stride = found["MODEL.STRIDE_SIZE"]
    return [
        f"timm's {found['MODEL.TRANSFORMER_TYPE']}",
        *([f"stride {stride[0]} x {stride[1]}"] if tuple(stride) != OWN_STRIDE else []),
    ]


def _fit(base: TimmBackbone, state: State, pretrained: Pretrained) -> State:
    """Fits a state dict to the backbone by timm's own function for files of the model: it renames what the model's
    authors name otherwise and resizes what goes by the image size. Classifiers are left out."""
    side = state.get("sie_embed")
    state = {name: value for name, value in state.items() if name != "sie_embed"}
    fit = timm_filter(base.pretrained_cfg["architecture"])
    size = _size_of_positions(base, state, pretrained, fit)
    if size is not None and _is_dinov2(state):
        state, size = _resize_as_dinov2(base, state, size)
    try:
        fitted = _without_classifier(base, _apply(fit, state, base, size))
    except Exception as error:  # timm's functions assert nothing and raise whatever an odd file leads to
        raise UserError(
            f"{pretrained.source}: timm cannot read it as {base.pretrained_cfg['architecture']} "
            f"({type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}); give weights of this "
            "model, or set MODEL.TRANSFORMER_TYPE to theirs"
        ) from error
    if side is not None and base.sie_embed is not None and base.sie_embed.shape == side.shape:
        fitted["sie_embed"] = side
    elif side is not None:
        logger.info(
            "%s: side information of another data set (%d vectors) is left out", pretrained.source, num_rows(side)
        )
    return fitted


def _is_dinov2(state: State) -> bool:
    """Whether a state dict has DINOv2's own names, of its models without registers."""
    names = ("mask_token", "pos_embed", "blocks.0.ls1.gamma")
    return all(name in state for name in names) and "register_tokens" not in state


def _resize_as_dinov2(base: Any, state: State, size: tuple[int, int]) -> tuple[State, tuple[int, int]]:
    """Resizes positions as the code of DINOv2 does for models without registers, which timm does otherwise: without
    antialias, by factors of grids that are 0.1 too large (dinov2/models/vision_transformer.py of
    https://github.com/facebookresearch/dinov2, interpolate_pos_encoding)."""
    patch = base.patch_embed.patch_size
    grid, positions = base.patch_embed.grid_size, state["pos_embed"].float()
    rows, columns = size[0] // patch[0], size[1] // patch[1]
    if (rows, columns) == tuple(grid):
        return state, size
    table = positions[:, 1:].reshape(1, rows, columns, -1).permute(0, 3, 1, 2)  # (1, D, h, w)
    factors = ((grid[0] + 0.1) / rows, (grid[1] + 0.1) / columns)
    table = F.interpolate(table, scale_factor=factors, mode="bicubic")
    resized = torch.cat([positions[:, :1], table.flatten(2).transpose(1, 2)], dim=1)  # (1, 1 + h' w', D)
    return {**state, "pos_embed": resized}, (grid[0] * patch[0], grid[1] * patch[1])


def _without_classifier(base: TimmBackbone, state: State) -> State:
    """The state without timm's classifier, and without CLIP's projection, which timm makes the classifier of."""
    own, heads = base.state_dict(), tuple(f"{name}." for name in classifiers(base))
    return {
        name: value
        for name, value in state.items()
        if name in own or not (name == CLIP_PROJECTION or name.startswith(heads))
    }


@cache
def timm_filter(name: str) -> Filter | None:
    """timm's own function from a state dict of other names or another image size to one of its model `name`; None where
    it has none. timm passes it to its load_pretrained and nowhere else, so it is read there."""
    found: list[Filter | None] = []
    load_pretrained = _builder.load_pretrained

    def read(model: Any, *args: Any, filter_fn: Filter | None = None, **options: Any) -> None:
        found.append(filter_fn)

    _builder.load_pretrained = read  # type: ignore[assignment]
    try:
        with torch.device("meta"):
            timm.create_model(name, pretrained=True)
    finally:
        _builder.load_pretrained = load_pretrained
    return found[0] if found else None


def _apply(fit: Filter | None, state: State, base: Any, size: tuple[int, int] | None) -> State:
    """timm's function on a copy of the state, whose positions are those of images of that size; None: timm's own."""
    if fit is None:
        return dict(state)
    before, timm_logger = base.pretrained_model_args, logging.getLogger("timm")
    level = timm_logger.level
    base.pretrained_model_args = before if size is None else {**before, "img_size": size}
    timm_logger.setLevel(logging.WARNING)  # the caller logs what is resized
    arguments = (dict(state), base)[: len(inspect.signature(fit).parameters)]  # some do not need the model
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dict(fit(*arguments))
    finally:
        base.pretrained_model_args = before
        timm_logger.setLevel(level)


class _WithoutPositions:
    """A model as timm's functions see it, without position embeddings, so that they do not resize the file's."""

    pos_embed = None

    def __init__(self, model: Any) -> None:
        self._model = model
        self.pretrained_model_args = model.pretrained_model_args

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def _size_of_positions(base: Any, state: State, pretrained: Pretrained, fit: Filter | None) -> tuple[int, int] | None:
    """Size of the images that a file's position embeddings are for, which timm takes to be those of its own weights or
    square; None where there are none, or not in a grid.

    Raises:
        UserError: nothing tells the grid.
    """
    own = getattr(base, "pos_embed", None)
    grid = getattr(getattr(base, "patch_embed", None), "grid_size", None)
    if not isinstance(own, torch.Tensor) or own.ndim != 3 or grid is None:
        return None
    try:
        renamed = _apply(fit, state, _WithoutPositions(base), None)
    except Exception:  # reported by the caller, where it happens again
        return None
    positions, projection = renamed.get("pos_embed"), renamed.get("patch_embed.proj.weight")
    if positions is None or projection is None or positions.ndim != 3 or projection.ndim != 4:
        return None
    patch: tuple[int, int] = (projection.shape[-2], projection.shape[-1])
    count = positions.shape[1] - (own.shape[1] - math.prod(grid))
    rows, columns = _find_grid(base, count, patch, pretrained)
    if (rows, columns) != tuple(grid):
        logger.info("%s: positions resized from %d x %d to %d x %d patches", pretrained.source, rows, columns, *grid)
    return rows * patch[0], columns * patch[1]


def _find_grid(base: Any, count: int, patch: tuple[int, int], pretrained: Pretrained) -> tuple[int, int]:
    native = tuple(side // length for side, length in zip(base.pretrained_cfg["input_size"][1:], patch, strict=True))
    stored = dict(pretrained.stored)
    if tuple(stored.get("MODEL.STRIDE_SIZE", OWN_STRIDE)) == OWN_STRIDE:
        stored.pop("MODEL.STRIDE_SIZE", None)  # the stride of the model's own patches
    told = pretrained.from_reid or "INPUT.SIZE_TEST" in stored or any(pretrained.img_size) or pretrained.hw_ratio
    if not told and math.prod(native) == count:
        return native
    return find_grid(
        count,
        patch_size=patch[0],
        own=base.patch_embed.grid_size,
        own_stride=base.patch_embed.proj.stride,
        stored=stored,
        given_size=pretrained.img_size,
        square=False if pretrained.from_reid else None,
        hw_ratio=pretrained.hw_ratio,
        source=pretrained.source,
    )


def warn_of_pixel_stats(model: TimmReID) -> None:
    """Warns where the model's pixel mean and deviation are not those that timm's weights of it were trained with."""
    cfg = model.base.pretrained_cfg
    pairs = ((cfg["mean"], model.normalize.mean), (cfg["std"], model.normalize.std))
    if not all(torch.allclose(torch.tensor(theirs), own, atol=1e-3) for theirs, own in pairs):
        logger.warning(
            "timm's weights of %s were trained with INPUT.PIXEL_MEAN %s and PIXEL_STD %s, other ones than here",
            *(cfg["architecture"], list(cfg["mean"]), list(cfg["std"])),
        )


@torch.enable_grad()
def _renamed(base: TimmBackbone, state: State) -> set[str]:
    """Names of a state dict whose tensors reach the model under other names, found by following gradients through
    timm's function."""
    tensors = {name: torch.empty(value.shape, device="meta").requires_grad_() for name, value in state.items()}
    try:
        fitted = _apply(timm_filter(base.pretrained_cfg["architecture"]), tensors, base, None)
        fitted = _without_classifier(base, fitted)
        outputs = [value.sum() for value in fitted.values() if value.requires_grad]
        gradients = torch.autograd.grad(outputs, list(tensors.values()), allow_unused=True)
    except Exception:  # reported by _fit, or where timm's function does not follow gradients
        return set()
    return {name for name, gradient in zip(tensors, gradients, strict=True) if gradient is not None} - fitted.keys()


TIMM_FILES = FileKind(
    title="a model of timm",
    example="timm, with MODEL.TRANSFORMER_TYPE its name",
    keys_of_model=(*KEYS, "MODEL.SIE_COE"),
    has_image_size=True,
    has_any_names=True,
    holds=lambda backbone: False,
    keys=_keys,
    relevant_keys=_relevant_keys,
    describe=_describe,
    fit=_fit,
    renamed=_renamed,
)
