"""The configuration that a checkpoint of this project keeps, as checked values of the keys that loading needs."""

import logging
import math
from collections.abc import Callable
from typing import Any

from utils.errors import UserError
from utils.yaml_text import NotYamlError, load_yaml

logger = logging.getLogger(__name__)

MAX_PIXELS = 2**14
# Files of this project that are older than the key were trained with torchvision's stem.
OLDER_VALUES = {"MODEL.STEM_POOL": 3}


def _is_int(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _is_pair(low: int, high: int) -> Callable[[Any], bool]:
    fits = _is_int(low, high)
    return lambda value: isinstance(value, list) and len(value) == 2 and all(map(fits, value))


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_factor(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


# What each key must be; other keys of the configuration play no part here.
CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "SEED": ("a whole number", _is_int(0, 2**63)),
    "INPUT.SIZE_TEST": ("a height and a width in pixels", _is_pair(1, MAX_PIXELS)),
    "MODEL.NAME": ("transformer or resnet50", lambda value: value in ("transformer", "resnet50")),
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


def stored_config(content: dict, path: str) -> dict[str, Any]:
    """Values by dotted key, those of CHECKS that the checkpoint's configuration has; {} where it keeps none.

    Others, too, call something `meta` or `config`: what is no configuration with a MODEL section is theirs, and of
    theirs with one, values that none of ours can have are left out, with a warning.

    Args:
        content: what `load_checkpoint` returned.
        path: for messages.

    Raises:
        UserError: the configuration of a file of this project has a value that none can have.
    """
    meta = content.get("meta")
    text = meta.get("config") if isinstance(meta, dict) else None
    if not isinstance(text, str):
        return {}
    tree = _parse(text, path, ours="stage" in meta)
    if not isinstance(tree, dict) or not isinstance(tree.get("MODEL"), dict):
        return {}
    ours = "stage" in meta or "CFAT" in tree
    values = {key: value for key in CHECKS if (value := value_of(tree, key)) is not None}
    faults = {
        key: f"{key} {str(value)[:60]!r}, expected {expected}"
        for key, value in values.items()
        for expected, accepts in [CHECKS[key]]
        if not accepts(value)
    }
    found = f"checkpoint {path}: the configuration in it has {'; '.join(faults.values())}"
    if faults and ours:
        raise UserError(f"{found}; the file is damaged or was changed, fetch it anew")
    if faults:
        logger.warning("%s; what the run's configuration says is used instead", found)
        return {key: value for key, value in values.items() if key not in faults}
    return OLDER_VALUES | values if ours else values


def value_of(node: Any, key: str) -> Any:
    """The value of a dotted key in nested dicts; None where there is none."""
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _parse(text: str, path: str, *, ours: bool) -> Any:
    """The YAML text. Where a file of others holds none, a warning says so, and None is returned."""
    try:
        return load_yaml(text, "the configuration in it")
    except UserError as error:
        if ours and not isinstance(error, NotYamlError):
            raise UserError(f"checkpoint {path}: {error}; the file was changed, fetch it anew") from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        logger.warning("checkpoint %s: the configuration in it cannot be read (%s) and is not used", path, reason[:120])
        return None
