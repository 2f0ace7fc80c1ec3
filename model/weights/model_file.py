"""What a checkpoint file holds: the model's state dict, and the configuration that it was trained with."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.weights.state_dicts import State, find_model
from utils.checkpoints import load_checkpoint
from utils.errors import UserError
from utils.yaml_reader import NotYamlError, load_yaml

logger = logging.getLogger(__name__)

MAX_PIXELS = 2**14
# Files of this project that are older than a key were trained with this value of it.
VALUES_BEFORE_KEY = {"MODEL.STEM_POOL": 3}


@dataclass(frozen=True)
class ModelFile:
    """A model in a checkpoint file.

    Attributes:
        path: the file, for messages.
        state: the model's state dict.
        config: values by dotted key, those of CHECKS that the configuration in the file has; {} where it keeps none.
    """

    path: str
    state: State
    config: dict[str, Any]


def read_model_file(path: str | Path, *, entry: str = "") -> ModelFile:
    """Reads the model in a checkpoint file; a log line says which one where the file has several.

    Args:
        path: file of torch.save or safetensors.
        entry: MODEL.CHECKPOINT_ENTRY; see `find_model`.

    Raises:
        UserError: the file cannot be read, holds no tensors, or keeps a configuration that makes no sense.
    """
    content = load_checkpoint(path)
    state, note = find_model(content, path, entry=entry)
    if note:
        logger.info("checkpoint %s: %s", path, note)
    return ModelFile(str(path), state, stored_config(content, path))


def _is_int(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _is_pair(low: int, high: int) -> Callable[[Any], bool]:
    fits = _is_int(low, high)
    return lambda value: isinstance(value, list) and len(value) == 2 and all(map(fits, value))


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_factor(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


# Keys that loading needs, and what each must be.
CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "SEED": ("a whole number", _is_int(0, 2**63)),
    "INPUT.SIZE_TEST": ("a height and a width in pixels", _is_pair(1, MAX_PIXELS)),
    "MODEL.NAME": ("a kind of backbone", lambda value: value in ("transformer", "resnet50", "resnet50_ibn_a", "timm")),
    "MODEL.TRANSFORMER_TYPE": ("a name", lambda value: isinstance(value, str) and 0 < len(value) <= 200),
    "MODEL.STRIDE_SIZE": ("two strides in pixels", _is_pair(1, MAX_PIXELS)),
    "MODEL.SIE_CAMERA": ("True or False", _is_bool),
    "MODEL.SIE_VIEW": ("True or False", _is_bool),
    "MODEL.SIE_COE": ("a number", _is_factor),
    "MODEL.JPM": ("True or False", _is_bool),
    "MODEL.RE_ARRANGE": ("True or False", _is_bool),
    "MODEL.SHIFT_NUM": ("a whole number of at least 1", _is_int(1, MAX_PIXELS**2)),
    "MODEL.SHUFFLE_GROUP": ("a whole number of at least 1", _is_int(1, MAX_PIXELS**2)),
    "MODEL.DEVIDE_LENGTH": ("a whole number of at least 1", _is_int(1, MAX_PIXELS)),
    "MODEL.LAST_STRIDE": ("1 or 2", _is_int(1, 2)),
    "MODEL.GEM_POOL": ("True or False", _is_bool),
    "MODEL.STEM_RELU": ("True or False", _is_bool),
    "MODEL.STEM_POOL": ("2 or 3", _is_int(2, 3)),
}


def stored_config(content: dict, path: str | Path) -> dict[str, Any]:
    """Reads the configuration in a checkpoint.

    Checkpoints of other projects have entries named `meta` or `config` too: an entry without a MODEL section is not
    read, and of one with it, values that no configuration of this project can have are left out, with a warning.

    Args:
        content: as of `load_checkpoint`.
        path: for messages.

    Returns:
        Values by dotted key, those of CHECKS that it has; {} where the file keeps no configuration.

    Raises:
        UserError: the configuration of a file of this project has a value that none can have.
    """
    meta = content.get("meta")
    if not isinstance(meta, dict) or not isinstance(text := meta.get("config"), str):
        return {}
    tree = _parse(text, path, ours="stage" in meta)
    if not isinstance(tree, dict) or not isinstance(tree.get("MODEL"), dict):
        return {}
    ours = "stage" in meta or "CFAT" in tree
    values = {key: value for key in CHECKS if (value := _value_of(tree, key)) is not None}
    errors = {
        key: f"{key} {str(value)[:60]!r}, expected {expected}"
        for key, value in values.items()
        for expected, accepts in [CHECKS[key]]
        if not accepts(value)
    }
    found = f"checkpoint {path}: the configuration in it has {'; '.join(errors.values())}"
    if errors and ours:
        raise UserError(f"{found}; the file is damaged or was changed, fetch it anew")
    if errors:
        logger.warning("%s; the values of this run's configuration are used instead", found)
        return {key: value for key, value in values.items() if key not in errors}
    return VALUES_BEFORE_KEY | values if ours else values


def _value_of(node: Any, key: str) -> Any:
    """The value of a dotted key in nested dicts; None where there is none."""
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _parse(text: str, path: str | Path, *, ours: bool) -> Any:
    """Parses YAML text. Where a file of another project holds none, logs a warning and returns None."""
    try:
        return load_yaml(text, "the configuration in it")
    except UserError as error:
        if ours and not isinstance(error, NotYamlError):
            raise UserError(f"checkpoint {path}: {error}; the file was changed, fetch it anew") from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        logger.warning("checkpoint %s: the configuration in it cannot be read (%s) and is not used", path, reason[:120])
        return None
