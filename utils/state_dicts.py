"""The model's state dict in a checkpoint: under which entries and prefixes it lies, and which one where there are
several, as with averages of the weights (EMA)."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from utils.errors import UserError

logger = logging.getLogger(__name__)

State = dict[str, torch.Tensor]

WRAPPERS = ("module", "_orig_mod")  # what DataParallel and torch.compile put into names, anywhere
# First parts of names that say where a model was used, not what it is.
PREFIXES = (
    "model", "net", "network", "backbone", "encoder", "base_encoder", "encoder_q", "encoder_k", "momentum_encoder",
    "target_encoder", "student", "teacher", "ema", "model_ema", "ema_model",
)  # fmt: skip
# Names by which models are found, most telling first: those of re-identification, bare backbones, CFAT's bridge.
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
    """Length of a tensor's first dimension; 0 for none and for a 0-dim tensor."""
    return len(value) if value is not None and value.ndim else 0


def model_state(content: dict, path: str | Path, *, entry: str = "") -> State:
    """`find_model`, with a log line where an entry was chosen or a prefix taken off."""
    state, note = find_model(content, path, entry=entry)
    if note:
        logger.info("checkpoint %s: %s", path, note)
    return state


def find_model(content: dict, path: str | Path, *, entry: str = "") -> tuple[State, str]:
    """Finds the model's state dict: bare, in dicts, or under a prefix that says nothing of the model.

    Where there are several, the trained weights come before their average, and of a bare backbone's student and
    teacher (DINO) the teacher, as the code of such files has it.

    Args:
        content: what `load_checkpoint` returned.
        path: for messages.
        entry: name of an entry or prefix, MODEL.CHECKPOINT_ENTRY; "" chooses as said.

    Returns:
        The state dict, and a note on what was chosen; "" where there was nothing to choose or to take off.

    Raises:
        UserError: no tensors, two of one name, several models, or no such entry.
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
    if not models:  # of another kind: whoever wants a certain one says what is missing
        return max(boxes.values(), key=len), ""
    label = _choose(models, path, entry)
    return models[label], _note(content, models, label, entry)


def _boxes(content: dict, path: str | Path) -> Iterator[tuple[str, State]]:
    """The tensors of every dict in `content`, by the dotted keys that lead to the dict; each dict once."""
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
    """The models of the most telling kind, by the entries and the prefix that lead to each."""
    for anchors in ANCHORS:
        found: dict[str, State] = {}
        for label, state in boxes.items():
            prefixes = sorted(_prefixes(state, anchors), key=len, reverse=True)
            taken: set[str] = set()
            for prefix in prefixes:
                names = [name for name in state if name.startswith(prefix) and name not in taken]
                taken.update(names)
                found[f"{label}.{prefix}".strip(".")] = {name[len(prefix) :]: state[name] for name in names}
        if found:
            return found
    return {}


def _prefixes(state: State, anchors: tuple[str, ...]) -> set[str]:
    """Prefixes, each with its dot, under which one of `anchors` stands and which say nothing of the model."""
    prefixes = {name.removesuffix(anchor) for name in state for anchor in anchors if name.endswith(anchor)}
    return {
        prefix
        for prefix in prefixes
        if not prefix or (prefix.endswith(".") and all(map(_says_nothing, prefix[:-1].split("."))))
    }


def _says_nothing(part: str) -> bool:
    """Whether a part of a prefix says where a model was used, or that it is an average, and not what it is."""
    return part in PREFIXES or _AVERAGED.search(part) is not None


def _choose(models: dict[str, State], path: str | Path, entry: str) -> str:
    if len(models) == 1:
        return next(iter(models))
    if entry:
        fitting = [label for label in models if _names(label, entry)]
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
    """Which of several models comes first; of re-identification models' students and teachers neither does."""
    if _STUDENT.search(label):
        return 1 if any(name.startswith("base.") for name in state) else 2
    return 1 if _AVERAGED.search(label) else 0


def _names(label: str, entry: str) -> bool:
    return label == entry or entry in label.split(".")


def _note(content: dict, models: dict[str, State], label: str, entry: str) -> str:
    others = [other for other in models if other != label]
    unread = [key for key, value in content.items() if isinstance(key, str) and isinstance(value, dict)
              and _AVERAGED.search(key) and not any(other.split(".")[0] == key for other in models)]  # fmt: skip
    unasked = bool(entry) and not _names(label, entry)  # several that it does not name are an error
    note = f"the weights of {label or 'its top level'!r} are read" if others or label not in ("", "model") else ""
    if unasked:
        read = repr(label or "its top level")
        note = f"the weights of {read} are read, its only model; none is MODEL.CHECKPOINT_ENTRY {entry!r}"
    if others:
        note += f", not those of {', '.join(map(repr, others))} (MODEL.CHECKPOINT_ENTRY chooses)"
    if unread:
        note += f"{'; ' if note else ''}{', '.join(map(repr, unread))} holds no names of a model and is not read"
    return note
