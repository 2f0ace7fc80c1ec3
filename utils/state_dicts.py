"""Finds the model's state dict in a checkpoint, under entries and name prefixes, also beside averaged weights (EMA)."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from utils.errors import UserError

logger = logging.getLogger(__name__)

State = dict[str, torch.Tensor]

WRAPPERS = ("module", "_orig_mod")  # parts that DataParallel and torch.compile insert anywhere in a name
# First parts of names that say how a training code uses the model, not what the model is.
PREFIXES = (
    *("model", "net", "network", "backbone", "encoder", "base_encoder", "encoder_q", "encoder_k"),
    *("momentum_encoder", "target_encoder", "student", "teacher", "ema", "model_ema", "ema_model"),
)
# Names that every model of a kind has: re-identification models, bare backbones, CFAT's bridge; searched in this order.
ANCHORS = (
    ("base.cls_token", "base.layer1.0.conv1.weight"),
    ("cls_token", "layer1.0.conv1.weight"),
    ("encoder.mu.weight",),
)
_AVERAGED = re.compile(r"(?i)(^|[._])(ema|swa|teacher|momentum|encoder_k|target|averaged?|avg)([._]|$)")
_STUDENT = re.compile(r"(^|\.)student(\.|$)")
MAX_DEPTH = 8
SHOWN = 8  # names in a message


def num_rows(value: torch.Tensor | None) -> int:
    """Length of a tensor's first dimension; 0 for None and for a 0-dim tensor."""
    return len(value) if value is not None and value.ndim else 0


def model_state(content: dict, path: str | Path, *, entry: str = "") -> State:
    """`find_model`, which logs where it chose an entry or removed a prefix."""
    state, note = find_model(content, path, entry=entry)
    if note:
        logger.info("checkpoint %s: %s", path, note)
    return state


def find_model(content: dict, path: str | Path, *, entry: str = "") -> tuple[State, str]:
    """Finds the model's state dict: at the top level, in an entry, or under one of PREFIXES.

    Of several models, the trained weights come before their average; of a bare backbone's student and teacher (DINO),
    the teacher comes first, as in the code that writes such files.

    Args:
        content: what `load_checkpoint` returned.
        path: for messages.
        entry: name of an entry or prefix, MODEL.CHECKPOINT_ENTRY; "" chooses as above.

    Returns:
        The state dict, and a note on what was chosen; "" where there was nothing to choose or to remove.

    Raises:
        UserError: no tensors, two tensors of one name, several models, or no such entry.
    """
    boxes = dict(_boxes(content, path))
    if not boxes:
        raise UserError(
            f"checkpoint {path}: no tensors found; expected a state dict, bare or in an entry such as model or "
            f"state_dict; found {', '.join(str(key)[:60] for key in list(content)[:SHOWN]) or 'nothing'}"
        )
    models = _models(boxes)
    if "training" in {label.split(".")[0] for label in models} and "meta" in content:
        raise UserError(
            f"checkpoint {path}: the state of a training that goes on; continue it with SOLVER.RESUME auto, or give "
            "the checkpoint that it leaves at its end"
        )
    if not models:  # another kind of model; the caller reports what it misses
        return max(boxes.values(), key=len), ""
    label = _choose(models, path, entry)
    return models[label], _note(content, models, label)


def _boxes(content: dict, path: str | Path) -> Iterator[tuple[str, State]]:
    """The tensors of every dict in `content`, with the dotted keys that lead to the dict; each dict once."""
    waiting, seen = [("", content, 0)], {id(content)}
    while waiting:
        label, box, depth = waiting.pop(0)
        state: State = {}
        for name, value in box.items():
            if not isinstance(name, str):
                continue
            if isinstance(value, torch.Tensor):
                short = ".".join(part for part in name.split(".") if part not in WRAPPERS)
                if short in state:
                    raise UserError(f"checkpoint {path}: holds {short} twice, with and without {' or '.join(WRAPPERS)}")
                state[short] = value
            elif isinstance(value, dict) and id(value) not in seen and depth < MAX_DEPTH:
                seen.add(id(value))
                waiting.append((f"{label}.{name}".strip("."), value, depth + 1))
        if state:
            yield label, state


def _models(boxes: dict[str, State]) -> dict[str, State]:
    """The models of the first kind of ANCHORS that is there, by the entries and the prefix of each."""
    for anchors in ANCHORS:
        found: dict[str, State] = {}
        for label, state in boxes.items():
            prefixes = sorted(_prefixes(state, anchors), key=lambda prefix: (-len(prefix), prefix))
            taken: set[str] = set()
            for prefix in prefixes:
                names = [name for name in state if name.startswith(prefix) and name not in taken]
                taken.update(names)
                found[f"{label}.{prefix}".strip(".")] = {name[len(prefix) :]: state[name] for name in names}
        if found:
            return found
    return {}


def _prefixes(state: State, anchors: tuple[str, ...]) -> set[str]:
    """Prefixes of names in `state`, with their dot, before one of `anchors`; each made of PREFIXES."""
    prefixes = {name.removesuffix(anchor) for name in state for anchor in anchors if name.endswith(anchor)}
    return {
        prefix
        for prefix in prefixes
        if not prefix or (prefix.endswith(".") and all(part in PREFIXES for part in prefix[:-1].split(".")))
    }


def _choose(models: dict[str, State], path: str | Path, entry: str) -> str:
    """The label of the model to read."""
    if len(models) == 1:
        return next(iter(models))
    if entry:
        fitting = [label for label in models if label == entry or entry in label.split(".")]
    else:
        ranks = {label: _rank(label, models[label]) for label in models}
        fitting = [label for label in models if ranks[label] == min(ranks.values())]
    if len(fitting) != 1:
        number = "none" if not fitting else "several"
        asked = f"MODEL.CHECKPOINT_ENTRY {entry!r} names {number} of them; " if entry else ""
        raise UserError(
            f"checkpoint {path}: holds {len(models)} models, {', '.join(map(repr, list(models)[:SHOWN]))}; {asked}set "
            "MODEL.CHECKPOINT_ENTRY to the one to read"
        )
    return fitting[0]


def _rank(label: str, state: State) -> int:
    """The smallest rank is read; students and teachers of re-identification models have the same one."""
    if _STUDENT.search(label):
        return 1 if any(name.startswith("base.") for name in state) else 2
    return 1 if _AVERAGED.search(label) else 0


def _note(content: dict, models: dict[str, State], label: str) -> str:
    """What was chosen and what was not read, for the log."""
    others = [other for other in models if other != label]
    entries = {other.split(".")[0] for other in models}
    unread = [key for key in content if isinstance(key, str) and _AVERAGED.search(key) and key not in entries]
    note = f"the weights of {label or 'its top level'!r} are read" if others or label not in ("", "model") else ""
    if others:
        note += f", not those of {', '.join(map(repr, others))} (MODEL.CHECKPOINT_ENTRY chooses)"
    if unread:
        note += f"{'; ' if note else ''}{', '.join(map(repr, unread))} holds no names of a model and is not read"
    return note
