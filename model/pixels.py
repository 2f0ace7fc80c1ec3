"""Mean and deviation of pixels that count for a checkpoint's model: the file's, at full precision, or the run's."""

import logging

import torch

from utils.errors import UserError
from utils.state_dicts import State

logger = logging.getLogger(__name__)

NAMES = ("normalize.mean", "normalize.std")
# Published means and deviations, to tell from their rounding in a half precision file.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def pixels_of_file(cfg, state: State, path: str) -> State:
    """The state with the pixel mean and deviation that count: the file's, or none where it does not have both; a log
    line tells which, unless file and configuration agree.

    Where the file's are a known pair, or the configuration's, rounded to half precision, the exact ones count.

    Raises:
        UserError: the file's are not three numbers each, or no mean and deviation can be like that.
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
        logger.info("checkpoint %s: pixel mean %s and deviation %s are rounded to half precision, of %s and %s, which "
                    "are used", path, *map(_short, (mean, std, *exact)))  # fmt: skip
    if _short(exact[0]) != _short(own[0]) or _short(exact[1]) != _short(own[1]):
        logger.warning("checkpoint %s holds pixel mean %s and deviation %s, which are used, not the configured %s",
                       path, *map(_short, exact), configured)  # fmt: skip
    return {**state, **{name: torch.tensor(triple) for name, triple in zip(NAMES, exact, strict=True)}}


def _triple(value: torch.Tensor, name: str, path: str) -> tuple[float, ...]:
    """The three numbers of one of NAMES; at float32's precision, float64's have no more."""
    usable = value.numel() == 3 and value.layout == torch.strided and not (value.is_meta or value.is_quantized)
    numbers = value.detach().float().flatten() if usable and not value.is_complex() else torch.tensor([])
    if len(numbers) != 3 or not numbers.isfinite().all():
        found = numbers.tolist() or f"{value.dtype} {tuple(value.shape)}"
        raise UserError(f"checkpoint {path}: {name} is {found}, expected three numbers; fetch the file anew")
    return tuple(numbers.tolist())


def _is_rounded(found: tuple[tuple[float, ...], ...], pair: tuple[tuple[float, ...], ...]) -> bool:
    """Whether `found` is `pair` at one of the precisions that checkpoints have."""
    numbers = torch.tensor(found)
    return any(
        torch.equal(numbers, torch.tensor(pair).to(dtype).float())
        for dtype in (torch.float32, torch.float16, torch.bfloat16)
    )


def _short(triple: tuple[float, ...]) -> list[float]:
    return [round(number, 6) for number in triple]
