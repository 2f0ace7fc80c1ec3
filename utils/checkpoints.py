"""Reading and writing checkpoints: dicts of tensors and plain values, so that they load without unpickling code."""

import logging
import pickle
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from utils.errors import UserError
from utils.files import write_files

logger = logging.getLogger(__name__)

State = dict[str, torch.Tensor]


def save_checkpoint(path: str | Path, states: dict[str, State], meta: dict) -> None:
    """Writes {**states, "meta": meta} beside `path` and renames it; an earlier file of an earlier run is kept.

    Args:
        states: state dicts by part, "model" and perhaps "bridge".
        meta: plain values: stage, epoch, num_classes, num_cameras, num_views, dataset, seed, versions, config text.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {name: {key: value.detach().cpu() for key, value in state.items()} for name, state in states.items()}
    for kept in write_files({path: lambda partial: torch.save({**content, "meta": meta}, partial)}):
        logger.info("%s of an earlier run is kept as %s", path, kept.name)


def load_checkpoint(path: str | Path) -> dict:
    """Reads a checkpoint, of torch.save or safetensors, onto the CPU without running code from it.

    Returns:
        The file's dict: ours has "model", perhaps "bridge", and "meta".

    Raises:
        UserError: no such file, not a checkpoint, damaged, or one that would need arbitrary unpickling.
    """
    path = Path(path)
    if not path.is_file():
        near = sorted(str(file) for file in path.parent.glob("*.pth")) if path.parent.is_dir() else []
        hint = f"; {path.parent} holds {', '.join(near)}" if near else ""
        raise UserError(f"checkpoint {path}: no such file{hint}; train first, or give the path of a downloaded one")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        foreign = re.search(r"Unsupported (?:global|class|operand)\S*\s(?:GLOBAL )?(\S+)", str(error))
        if foreign is None:
            raise UserError(f"checkpoint {path}: damaged, or no checkpoint at all; fetch it anew") from error
        raise UserError(
            f"checkpoint {path}: holds more than tensors and plain values ({foreign[1]}) and needs arbitrary "
            "unpickling, which is refused because it can run any code; where the file comes from, save its "
            "state_dict() with torch.save, and load that"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(
            f"checkpoint {path}: cannot be read ({error}); it is damaged or incomplete, fetch it anew"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"checkpoint {path}: holds a {type(content).__name__}, expected a dict of tensors")
    return content


def model_state(content: dict, path: str | Path) -> State:
    """The model's state dict in a checkpoint: bare, or under `model` or `state_dict`; `module.` prefixes removed."""
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    state = {name.removeprefix("module."): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if not state:
        raise UserError(
            f"checkpoint {path}: no tensors found; expected a state dict, bare or under 'model' or 'state_dict'"
        )
    return state
