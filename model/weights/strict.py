"""Loading a state dict by name, where every difference that is not expected is an error."""

import logging
from collections.abc import Iterable

import torch
from torch import nn

from utils.errors import UserError
from utils.state_dicts import State

logger = logging.getLogger(__name__)

SHOWN_FAULTS = 40  # in an error
SHOWN_PARTS = 8  # first parts of names, in an error
# Classifier heads of 1000 classes that nothing here uses: the one that the family's backbones carry along, those of
# timm's and torchvision's ImageNet files.
UNUSED_HEADS = ("base.fc.", "fc.", "head.", "head_dist.", "pre_logits.")


def load_strictly(
    module: nn.Module, state: State, *, source: str, optional: tuple[str, ...] = (), left_out: tuple[str, ...] = ()
) -> None:
    """Loads `state` into `module`; names and shapes must agree. One log line says what was loaded and what was not.

    Args:
        source: where the state comes from, for messages.
        optional: prefixes of names that the state may lack; the module's own values stay.
        left_out: names of the file that the caller has taken out of the state, for the log.

    Raises:
        UserError: names that are missing, unexpected or of another shape, with both shapes; tensors without numbers.
    """
    own = module.state_dict()
    expected = {name: tuple(value.shape) for name, value in own.items()}
    # BatchNorm's counter of batches, which nothing reads, came later than some files, and half precision spoils it.
    spoilt = {name for name in state if name.endswith("num_batches_tracked") and state[name].is_floating_point()}
    found = {
        name: tuple(value.shape)
        for name, value in state.items()
        if not name.startswith(UNUSED_HEADS) and name not in spoilt
    }
    kept = [
        name
        for name in expected
        if name not in found and (name.startswith(optional) or name.endswith("num_batches_tracked"))
    ]
    faults = [
        f"  {name}: {found[name]} in the file, {expected[name]} in the model"
        for name in expected
        if name in found and found[name] != expected[name]
    ]
    faults += [
        f"  {name}: {expected[name]} in the model, missing in the file"
        for name in expected
        if name not in found and name not in kept
    ]
    faults += [
        f"  {name}: {shape} in the file, not in the model" for name, shape in found.items() if name not in expected
    ]
    faults += [f"  {name}: {fault}" for name in found if name in own and (fault := _unfit(state[name], own[name]))]
    if faults and not found.keys() & expected.keys():
        raise UserError(
            f"{source}: holds another model; its names begin with {_first_parts(found)}, and this one's with "
            f"{_first_parts(expected)}; nothing was loaded. Give weights of this model, or remove what stands before "
            "these names in the file's"
        )
    if faults:
        raise UserError(
            f"{source}: does not fit the model, {len(faults)} of its names differ; nothing was loaded:\n"
            + "\n".join(faults[:SHOWN_FAULTS])
            + (f"\n  and {len(faults) - SHOWN_FAULTS} more" if len(faults) > SHOWN_FAULTS else "")
            + "\nset the keys that it was trained with: MODEL.NAME, TRANSFORMER_TYPE, STRIDE_SIZE, JPM, SIE_*, SIZE_*"
        )
    module.load_state_dict({name: state[name] for name in found}, strict=False)
    skipped = [*(name for name in state if name not in found), *left_out]
    logger.info(
        "%s: %d of %d parameters and buffers loaded; left at their initial values: %s; in the file and not used: %s",
        source, len(found), len(expected), _listed(kept), _listed(skipped),
    )  # fmt: skip


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _first_parts(names: Iterable[str]) -> str:
    parts = list(dict.fromkeys(name.split(".")[0] for name in names))
    return ", ".join(parts[:SHOWN_PARTS]) + (", ..." if len(parts) > SHOWN_PARTS else "") or "nothing"


def _unfit(value: torch.Tensor, own: torch.Tensor) -> str:
    """What keeps a tensor of a file from taking the place of the model's own; empty where nothing does."""
    kind = ""
    if value.is_meta or value.layout != torch.strided:
        kind = "a tensor without numbers" if value.is_meta else str(value.layout)
    elif value.is_floating_point() != own.is_floating_point():
        kind = str(value.dtype)
    elif value.shape == own.shape and not value.isfinite().all():  # a view of another shape may be larger than the file
        return "NaN or infinity in the file, which would make every feature so"
    return f"{kind} in the file, expected a dense tensor like the model's {own.dtype}" if kind else ""
