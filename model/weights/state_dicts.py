"""Finds the model's state dict in a checkpoint, under entries and prefixes, also beside averaged weights (EMA)."""

import re
from collections.abc import Iterator
from pathlib import Path

import torch

from utils.errors import UserError

State = dict[str, torch.Tensor]

WRAPPERS = ("module", "_orig_mod")  # what DataParallel and torch.compile put into names, anywhere
# First parts of names that say where a model was used, not what it is.
PREFIXES = {
    *("model", "net", "network", "backbone", "encoder", "base_encoder", "encoder_q", "encoder_k", "momentum_encoder"),
    *("target_encoder", "student", "teacher", "ema", "model_ema", "ema_model"),
}
# Parameters by which models are found, most specific first: re-identification models, bare backbones, CFAT's bridge.
ANCHORS = (
    ("base.cls_token", "base.layer1.0.conv1.weight", "bottleneck.running_mean"),
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


def find_model(content: dict, path: str | Path, *, entry: str = "") -> tuple[State, str]:
    """Finds the model's state dict: bare, in nested dicts, or under a prefix such as "module." or "encoder_q.".

    Of several, the trained weights come before their average; of the student and teacher of a bare backbone (DINO) the
    teacher, as the code of such files reads it.

    Args:
        content: as of `load_checkpoint`.
        path: for messages.
        entry: name of the entry or prefix to read, MODEL.CHECKPOINT_ENTRY; "" chooses as above.

    Returns:
        The state dict, and a note for the log on what was chosen; "" where there was no choice and no prefix.

    Raises:
        UserError: no tensors, two of the same name, several models, or no such entry.
    """
    state_dicts = dict(_state_dicts(content, path))
    if not state_dicts:
        raise UserError(
            f"checkpoint {path}: no tensors found; expected a state dict, bare or in an entry such as model or "
            f"state_dict; found {', '.join(str(key)[:60] for key in list(content)[:SHOWN]) or 'nothing'}"
        )
    models = _models(state_dicts)
    if "training" in {label.split(".")[0] for label in models} and "meta" in content:
        raise UserError(
            f"checkpoint {path}: the state of an unfinished training run; continue it with SOLVER.RESUME auto, or give "
            "the checkpoint that it leaves at its end"
        )
    if not models:  # a model of another kind: the caller says what it expects
        return max(state_dicts.values(), key=len), ""
    label = _choose(models, path, entry)
    return models[label], _note(content, models, label, entry)


def _state_dicts(content: dict, path: str | Path) -> Iterator[tuple[str, State]]:
    """The tensors of every dict in `content`, each with the dotted keys that lead to the dict."""
    waiting, seen = [("", content, 0)], {id(content)}
    while waiting:
        label, node, depth = waiting.pop(0)
        state: State = {}
        for name, value in node.items():
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


def _models(state_dicts: dict[str, State]) -> dict[str, State]:
    """The models of the most specific kind, each by the entries and the prefix that lead to it."""
    for anchors in ANCHORS:
        found: dict[str, State] = {}
        for label, state in state_dicts.items():
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
    """Prefixes, with their last dot, of the `anchors` in `state`: "", or made of PREFIXES alone."""
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
    """The label of the model to read."""
    if len(models) == 1:
        return next(iter(models))
    if entry:
        matching = [label for label in models if _names(label, entry)]
    else:
        ranks = {label: _rank(label, models[label]) for label in models}
        matching = [label for label in models if ranks[label] == min(ranks.values())]
    if len(matching) != 1:
        number = "none" if not matching else "several"
        asked = f"MODEL.CHECKPOINT_ENTRY {entry!r} names {number} of them; " if entry else ""
        raise UserError(
            f"checkpoint {path}: holds {len(models)} models, {', '.join(map(repr, list(models)[:SHOWN]))}; {asked}set "
            "MODEL.CHECKPOINT_ENTRY to the one to read"
        )
    return matching[0]


def _rank(label: str, state: State) -> int:
    """Which of several models comes first, from 0; a re-identification model's student and teacher rank the same."""
    if _STUDENT.search(label):
        return 1 if any(name.startswith("base.") for name in state) else 2
    return 1 if _AVERAGED.search(label) else 0


def _names(label: str, entry: str) -> bool:
    return label == entry or entry in label.split(".")


def _note(content: dict, models: dict[str, State], label: str, entry: str) -> str:
    """What was chosen and what was not read, for the log."""
    others = [other for other in models if other != label]
    entries = {other.split(".")[0] for other in models}
    averages = [key for key, value in content.items() if isinstance(key, str) and isinstance(value, dict)]
    unread = [key for key in averages if _AVERAGED.search(key) and key not in entries]
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
