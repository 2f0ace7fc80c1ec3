"""Pixel mean and standard deviation of a checkpoint's model: the file's, at full precision, or the configuration's."""

import logging

import torch
from yacs.config import CfgNode

from model.weights.state_dicts import State
from utils.errors import UserError

logger = logging.getLogger(__name__)

Triple = tuple[float, ...]  # one number for each of RGB

NAMES = ("normalize.mean", "normalize.std")
# Published values, to recognise them where a half precision file has rounded them.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def with_pixel_stats(cfg: CfgNode, state: State, path: str) -> State:
    """Returns the state with the pixel mean and deviation to use: the file's, or none where it lacks one of them, so
    that the model keeps the configuration's. A log line says which, unless file and configuration agree.

    Where the file's are published values, or the configuration's, rounded to half precision, the exact ones are used.

    Raises:
        UserError: the file's are not three numbers each, or a deviation is not above 0.
    """
    own = (tuple(cfg.INPUT.PIXEL_MEAN), tuple(cfg.INPUT.PIXEL_STD))
    configured = f"INPUT.PIXEL_MEAN {list(own[0])} and PIXEL_STD {list(own[1])}"
    if not all(name in state for name in NAMES):
        logger.warning(
            "checkpoint %s holds no pixel mean and deviation: %s of the configuration are used; TransReID's and "
            "CIL-ReID's ViT files were trained with 0.5 for both",
            path,
            configured,
        )
        return {name: value for name, value in state.items() if name not in NAMES}
    mean, std = (_triple(state[name], name, path) for name in NAMES)
    if min(std) <= 0:
        raise UserError(f"checkpoint {path}: normalize.std {list(std)}, expected numbers above 0; fetch the file anew")
    exact = next((pair for pair in (own, IMAGENET, HALF, CLIP) if _is_rounded((mean, std), pair)), (mean, std))
    if not torch.equal(torch.tensor(exact), torch.tensor((mean, std))):  # both at float32, as the model has them
        logger.info(
            "checkpoint %s: pixel mean %s and deviation %s are rounded to half precision, of %s and %s, which are used",
            path,
            *map(_short, (mean, std, *exact)),
        )
    if _short(exact[0]) != _short(own[0]) or _short(exact[1]) != _short(own[1]):
        logger.warning(
            "checkpoint %s holds pixel mean %s and deviation %s, which are used, not the configured %s",
            path,
            *map(_short, exact),
            configured,
        )
    return {**state, **{name: torch.tensor(triple) for name, triple in zip(NAMES, exact, strict=True)}}


def _triple(value: torch.Tensor, name: str, path: str) -> Triple:
    """The three numbers of a tensor of a file, in float32."""
    usable = value.numel() == 3 and value.layout == torch.strided and not (value.is_meta or value.is_quantized)
    numbers = value.detach().float().flatten() if usable and not value.is_complex() else torch.tensor([])
    if len(numbers) != 3 or not numbers.isfinite().all():
        found = numbers.tolist() or f"{value.dtype} {tuple(value.shape)}"
        raise UserError(f"checkpoint {path}: {name} is {found}, expected three numbers; fetch the file anew")
    return tuple(numbers.tolist())


def _is_rounded(found: tuple[Triple, ...], pair: tuple[Triple, ...]) -> bool:
    """Whether `found` is `pair` in one of the precisions of checkpoints."""
    numbers = torch.tensor(found)
    return any(
        torch.equal(numbers, torch.tensor(pair).to(dtype).float())
        for dtype in (torch.float32, torch.float16, torch.bfloat16)
    )


def _short(triple: Triple) -> list[float]:
    return [round(number, 6) for number in triple]
