"""Loads a state dict by name and shape: a difference that is not expected is an error."""

import logging
from collections.abc import Iterable

import torch
from torch import nn

from model.weights.state_dicts import State
from utils.errors import UserError

logger = logging.getLogger(__name__)

# Torch computes nothing with them, not even whether they are finite.
FLOAT8 = (torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz, torch.float8_e8m0fnu)
SHOWN_ERRORS = 40  # in a message
SHOWN_PARTS = 8  # first parts of names, in a message
# Classifiers of ImageNet's 1000 classes, which nothing here uses: in the backbones of the TransReID codebase, in files
# of torchvision and of timm; and the token that stands for masked patches in pre-training (MAE, HAP, DINOv2).
UNUSED_HEADS = ("base.fc.", "fc.", "head.", "head_dist.", "pre_logits.", "mask_token")


def load_strictly(
    module: nn.Module, state: State, *, source: str, optional: tuple[str, ...] = (), left_out: tuple[str, ...] = ()
) -> None:
    """Loads `state` into `module`; one log line says what was loaded and what was not.

    Args:
        source: where the state comes from, for messages.
        optional: prefixes of names that the state may lack; the module keeps its own values.
        left_out: names of the file that the caller has taken out of the state, for the log.

    Raises:
        UserError: names that are missing, unexpected or of another shape, with both shapes; tensors that cannot be
            weights.
    """
    own = module.state_dict()
    expected = {name: tuple(value.shape) for name, value in own.items()}
    # BatchNorm's counter of batches is not read by anything: older files lack it, half precision makes it a float.
    counters = {name for name in [*state, *own] if name.endswith("num_batches_tracked")}
    found = {
        name: tuple(value.shape)
        for name, value in state.items()
        if (name in own or not name.startswith(UNUSED_HEADS)) and not (name in counters and value.is_floating_point())
    }
    kept = [name for name in expected if name not in found and (name.startswith(optional) or name in counters)]
    errors = [
        *(
            f"  {name}: {found[name]} in the file, {shape} in the model"
            for name, shape in expected.items()
            if found.get(name, shape) != shape
        ),
        *(
            f"  {name}: {shape} in the model, missing in the file"
            for name, shape in expected.items()
            if name not in found and name not in kept
        ),
        *(f"  {name}: {shape} in the file, not in the model" for name, shape in found.items() if name not in expected),
        *(f"  {name}: {reason}" for name in found if name in own and (reason := _why_unusable(state[name], own[name]))),
    ]
    if errors and not found.keys() & expected.keys():
        raise UserError(
            f"{source}: holds another model; its names begin with {_first_parts(found)}, and this one's with "
            f"{_first_parts(expected)}; nothing was loaded. Give weights of this model, or remove what stands before "
            "these names in the file's"
        )
    if errors:
        raise UserError(
            f"{source}: does not fit the model, {len(errors)} of its names differ; nothing was loaded:\n"
            + "\n".join(errors[:SHOWN_ERRORS])
            + (f"\n  and {len(errors) - SHOWN_ERRORS} more" if len(errors) > SHOWN_ERRORS else "")
            + "\nset the keys that it was trained with: MODEL.NAME, TRANSFORMER_TYPE, STRIDE_SIZE, JPM, SIE_*, SIZE_*"
        )
    module.load_state_dict({name: state[name] for name in found}, strict=False)
    skipped = [*(name for name in state if name not in found), *left_out]
    logger.info(
        "%s: %d of %d parameters and buffers loaded; left at their initial values: %s; in the file and not used: %s",
        *(source, len(found), len(expected), _list_names(kept), _list_names(skipped)),
    )


def _list_names(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _first_parts(names: Iterable[str]) -> str:
    parts = list(dict.fromkeys(name.split(".")[0] for name in names))
    return ", ".join(parts[:SHOWN_PARTS]) + (", ..." if len(parts) > SHOWN_PARTS else "") or "nothing"


def _why_unusable(value: torch.Tensor, own: torch.Tensor) -> str:
    """Why a tensor of a file cannot replace the model's own; "" where it can."""
    kind = ""
    if value.is_meta or value.layout != torch.strided:
        kind = "a tensor without numbers" if value.is_meta else str(value.layout)
    elif value.is_floating_point() != own.is_floating_point() or value.dtype in FLOAT8:
        kind = str(value.dtype)
    elif value.shape == own.shape and not value.isfinite().all():  # an expanded view may be larger than the file
        return "NaN or infinity in the file, which would make every feature so"
    return f"{kind} in the file, expected a dense tensor like the model's {own.dtype}" if kind else ""
