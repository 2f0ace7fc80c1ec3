"""What a checkpoint file holds: the model's state dict, and the configuration that it was trained with."""

import logging
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.kinds import NAMES
from model.pooling import POOLINGS
from model.weights.published_names import to_own_names
from model.weights.state_dicts import State, find_model
from utils.checkpoints import load_checkpoint
from utils.errors import UserError
from utils.stages import STAGES
from utils.structures import SetNumbers
from utils.yaml_reader import NotYamlError, load_yaml

logger = logging.getLogger(__name__)

MAX_PIXELS = 2**14
MAX_WIDTH = 2**20
MAX_SIDES = 2**20  # cameras or viewpoints
SET_NUMBERS = ("num_cameras", "num_views")
# Files of this project that are older than a key were trained with this value of it.
VALUES_BEFORE_KEY = {
    "MODEL.STEM_POOL": 3,
    "MODEL.STEM_CONV": False,
    "MODEL.POOLING": "class_token",
    "MODEL.REDUCE_FEAT_DIM": False,
    "MODEL.PART_TOKENS": False,
}


@dataclass(frozen=True)
class ModelFile:
    """A model in a checkpoint file.

    Attributes:
        path: the file, for messages.
        state: the model's state dict, under the names of this project's models.
        config: values by dotted key, those of CHECKS that the configuration in the file has; {} where it keeps none.
        left_out: names of the file that nothing uses and that `state` lacks, for the log.
        sets: the data sets that it was trained on, in the order of their cameras; () where it does not tell.
        trained_on: see `stored_corruptions`.
        selected_on: names of the test or validation sets on which it was the best epoch; () where it does not tell.
    """

    path: str
    state: State
    config: dict[str, Any]
    left_out: tuple[str, ...] = ()
    sets: tuple[SetNumbers, ...] = ()
    trained_on: tuple[str, ...] | None = None
    selected_on: tuple[str, ...] = ()


def read_model_file(
    path: str | Path, *, entry: str = "", names: Collection[str] = (), quiet: bool = False
) -> ModelFile:
    """Reads the model in a checkpoint file; a log line says which one where the file has several.

    Args:
        path: file of torch.save or safetensors.
        entry: MODEL.CHECKPOINT_ENTRY; see `find_model`.
        names: of the backbone that takes the weights; () for none. A file that has them keeps its own names.
        quiet: no log line: the file is read to check it, and will be read again.

    Raises:
        UserError: the file cannot be read, holds no tensors, or keeps a configuration that makes no sense.
    """
    return model_in(load_checkpoint(path), path, entry=entry, names=names, quiet=quiet)


def model_in(
    content: dict, path: str | Path, *, entry: str = "", names: Collection[str] = (), quiet: bool = False
) -> ModelFile:
    """The model in the content of a checkpoint file, as `load_checkpoint` returns it; see `read_model_file`."""
    state, note = find_model(content, path, entry=entry, names=names)
    if note and not quiet:
        logger.info("checkpoint %s: %s", path, note)
    state, left_out = named_for(state, names)
    return ModelFile(
        str(path),
        state,
        stored_config(content, path),
        left_out=left_out,
        sets=stored_sets(content, path),
        trained_on=stored_corruptions(content, path),
        selected_on=stored_selection(content, path),
    )


def named_for(state: State, names: Collection[str]) -> tuple[State, tuple[str, ...]]:
    """The state dict under the names of this project's models, unless it has more of the `names` as it is.

    Returns:
        The state dict, and the names of the file that it lacks because nothing uses them.
    """
    own, left_out = to_own_names(state)
    return (state, ()) if len(state.keys() & names) > len(own.keys() & names) else (own, left_out)


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
    "MODEL.NAME": (f"one of {', '.join(NAMES)}", NAMES.__contains__),
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
    "MODEL.STEM_CONV": ("True or False", _is_bool),
    "MODEL.POOLING": ("class_token, avg, max, avg_max or gem", lambda value: value in tuple(POOLINGS)),
    "MODEL.REDUCE_FEAT_DIM": ("True or False", _is_bool),
    "MODEL.FEAT_DIM": ("a whole number of at least 1", _is_int(1, MAX_WIDTH)),
    "MODEL.PART_TOKENS": ("True or False", _is_bool),
    "MODEL.MULTI_NECK": ("True or False", _is_bool),
    "MODEL.FEAT_FUSION": ("cat or mean", lambda value: value in ("cat", "mean")),
    "MODEL.SEMANTIC_WEIGHT": (
        "a number from 0 to 1, or -1",
        lambda value: _is_factor(value) and (0 <= value <= 1 or value == -1),
    ),
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
    tree, ours = _config_tree(content, path)
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


def own_config(content: dict, path: str | Path) -> str:
    """The configuration, as YAML, in a checkpoint of this project; "" where there is none, or another project's."""
    _, ours = _config_tree(content, path)
    return content["meta"]["config"] if ours else ""


def _config_tree(content: dict, path: str | Path) -> tuple[dict, bool]:
    """The configuration in a checkpoint, {} where there is none, and whether it is one of this project."""
    meta = content.get("meta")
    if not isinstance(meta, dict) or not isinstance(text := meta.get("config"), str):
        return {}, False
    tree = _parse(text, path, ours="stage" in meta)
    if not isinstance(tree, dict) or not isinstance(tree.get("MODEL"), dict):
        return {}, False
    return tree, "stage" in meta or "CFAT" in tree


def stored_sets(content: dict, path: str | Path) -> tuple[SetNumbers, ...]:
    """Reads which data sets a checkpoint of this project was trained on.

    Files from before several data sets could be named have one name.

    Raises:
        UserError: the file is of this project, and the entry is not as it writes it.
    """
    meta = content.get("meta")
    if not isinstance(meta, dict) or "stage" not in meta:
        return ()
    rows = meta.get("datasets")
    if rows is None and isinstance(meta.get("dataset"), str):
        rows = [{"name": meta["dataset"], **{name: meta.get(name) for name in SET_NUMBERS}}]
        if not all(map(_is_set, rows)):
            return ()
    if rows is None:
        return ()
    if not isinstance(rows, list) or not rows or not all(map(_is_set, rows)):
        raise UserError(
            f"checkpoint {path}: its entry datasets is {str(rows)[:200]}, expected the name and the numbers of cameras "
            "and viewpoints of every training set; the file is damaged or was changed, fetch it anew"
        )
    return tuple(SetNumbers(row["name"], *(row[name] for name in SET_NUMBERS)) for row in rows)


def stored_corruptions(content: dict, path: str | Path) -> tuple[str, ...] | None:
    """The corruptions that the stage of a checkpoint of this project was trained on, as CORRUPTION.TRAIN has them.

    Returns:
        Names and families; () for a stage that sees no corrupted images; None where the file does not tell.
    """
    meta = content.get("meta")
    if not isinstance(meta, dict):
        return None
    stage, text = STAGES.get(str(meta.get("stage"))), meta.get("config")
    if stage is None or not isinstance(text, str):
        return None
    tree = _parse(text, path, ours=True)
    names = _value_of(tree, "CORRUPTION.TRAIN")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names) if stage.sees_corrupted and _value_of(tree, "CORRUPTION.CLEAN_PROB") != 1 else ()


def stored_selection(content: dict, path: str | Path) -> tuple[str, ...]:
    """Reads on which sets a checkpoint of this project was the best of the evaluated epochs.

    Raises:
        UserError: the file is of this project, and the entry is not as it writes it.
    """
    meta = content.get("meta")
    if not isinstance(meta, dict) or "stage" not in meta:
        return ()
    names = meta.get("selected_on", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(
            f"checkpoint {path}: its entry selected_on is {str(names)[:200]}, expected names of data sets; the file is "
            "damaged or was changed, fetch it anew"
        )
    return tuple(names)


def _is_set(row: Any) -> bool:
    is_count = _is_int(1, MAX_SIDES)
    return (
        isinstance(row, dict)
        and isinstance(row.get("name"), str)
        and all(is_count(row.get(name)) for name in SET_NUMBERS)
    )


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
