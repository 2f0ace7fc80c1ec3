"""Finds the model's state dict in a checkpoint, under entries and prefixes, beside averaged weights (EMA), teachers and
what pre-training leaves in a file: heads, decoders, text towers."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from utils.errors import UserError

State = dict[str, torch.Tensor]

WRAPPERS = ("module", "_orig_mod")  # what DataParallel and torch.compile put into names, anywhere
# First parts of names that say where a model was used, not what it is; so do numbers, of torch.nn.Sequential.
PREFIXES = {
    *("model", "net", "network", "backbone", "encoder", "base_encoder", "encoder_q", "encoder_k", "momentum_encoder"),
    *("online_encoder", "online_network", "target_encoder", "student", "teacher", "ema", "model_ema", "ema_model"),
    "mae",
}
# How the names of models begin: re-identification models (CLIP-ReID's have image_encoder), bare backbones by their
# first layers (visual: the image tower of CLIP), CFAT's bridge.
REID = re.compile(r"(base|image_encoder)\.")
BACKBONE = re.compile(r"cls_token$|layer1\.0\.|patch_embed\.|stem\.|conv_stem\.|downsample_layers\.0\.|visual\.")
BRIDGE = re.compile(r"encoder\.mu\.weight$")
IMAGE_TOWER = "visual."
# What training adds to a re-identification model: prompts and text encoder (CLIP-ReID); to a backbone: decoder (MAE,
# HAP), masked_embed (iBOT), heads (DINO, PASS, BYOL). timm tells DINOv2's files by their mask_token, which stays.
REID_EXTRAS = re.compile(r"(prompt_learner|text_encoder)\.")
EXTRAS = re.compile(r"decoder_|masked_embed$|(projector|predictor)\.|head\.mlp|(head\.)?last_layer")
_AVERAGED = re.compile(r"(?i)(^|[._])(ema|swa|teacher|momentum|encoder_k|target|averaged?|avg)([._]|$)")
_STUDENT = re.compile(r"(^|\.)student(\.|$)")
MAX_DEPTH = 8
SHOWN = 8  # names in a message
SHOWN_GROUPS = 16  # of names that are left out


def num_rows(value: torch.Tensor | None) -> int:
    """Length of a tensor's first dimension; 0 for None and for a 0-dim tensor."""
    return len(value) if value is not None and value.ndim else 0


def backbone_of(state: State) -> State:
    """The backbone of a re-identification model's state dict, its names without "base."."""
    return {name.removeprefix("base."): value for name, value in state.items() if name.startswith("base.")}


@dataclass(frozen=True)
class _Model:
    """A model in a file.

    Attributes:
        state: its state dict.
        left_out: names of the file that are of no use: in the model, or beside all models.
    """

    state: State
    left_out: list[str]


def find_model(content: dict, path: str | Path, *, entry: str = "", names: Collection[str] = ()) -> tuple[State, str]:
    """Finds the model's state dict: bare, in nested dicts, or under a prefix such as "module." or "encoder_q.".

    Of several, the trained weights come before their average. Of a bare backbone's student and teacher (DINO, iBOT), or
    encoder and target_encoder (MSN), the teacher or target is read, as the code of such files does. What pre-training
    adds to a backbone is left out, and so is CLIP's text tower; the names of its image tower keep their "visual.".

    Args:
        content: as of `load_checkpoint`.
        path: for messages.
        entry: name of the entry or prefix to read, MODEL.CHECKPOINT_ENTRY; "" chooses as above.
        names: of the backbone that takes the weights, by which a bare one is found too; () for none.

    Returns:
        The state dict, and a note for the log on what was chosen and left out; "" where there was no choice, no prefix
        and nothing to leave out.

    Raises:
        UserError: no tensors, two of the same name, several models, or no such entry.
    """
    state_dicts = dict(_state_dicts(content, path))
    if not state_dicts:
        raise UserError(
            f"checkpoint {path}: no tensors found; expected a state dict, bare or in an entry such as model or "
            f"state_dict; found {', '.join(str(key)[:60] for key in list(content)[:SHOWN]) or 'nothing'}"
        )
    models = _models(state_dicts, names)
    if "training" in {label.split(".")[0] for label in models} and "meta" in content:
        raise UserError(
            f"checkpoint {path}: the state of an unfinished training run; continue it with SOLVER.RESUME auto, or give "
            "the checkpoint that it leaves at its end"
        )
    if not models:  # a model of another kind: the caller says what it expects
        return max(state_dicts.values(), key=len), ""
    label = _choose(models, path, entry)
    left_out = _group(models[label].left_out)
    notes = [_note(content, models, label, entry), f"left out: {left_out}" if left_out else ""]
    return models[label].state, "; ".join(filter(None, notes))


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


def _models(state_dicts: dict[str, State], names: Collection[str]) -> dict[str, _Model]:
    """The models of the most specific kind that there is, each by the entries and the prefix that lead to it."""
    for matches, extras, is_own in (
        (_beginning(REID), REID_EXTRAS, False),
        (lambda name, start: name[start:] in names, EXTRAS, True),
        (_beginning(BACKBONE), EXTRAS, False),
        (_beginning(BRIDGE), None, False),
    ):
        found: dict[str, _Model] = {}
        for label, state in state_dicts.items():
            below, beside = _by_prefix(state, matches)
            for prefix, model in below.items():
                if is_own and 2 * len(model.keys() & names) < len(names):
                    continue  # a few names of another model, such as norm.weight
                kept = _without_extras(model, extras, names)
                left_out = [*beside, *(name for name in model if name not in kept)]
                found[f"{label}.{prefix}".strip(".")] = _Model(kept, left_out)
        if found:
            return found
    return {}


def _beginning(pattern: re.Pattern[str]) -> Callable[[str, int], bool]:
    return lambda name, start: pattern.match(name, start) is not None


def _by_prefix(state: State, matches: Callable[[str, int], bool]) -> tuple[dict[str, State], list[str]]:
    """The parts of a state dict below the prefixes of names that match, and the names below none."""
    prefixes = {prefix for name in state if (prefix := _prefix(name, matches)) is not None}
    beside = list(state)
    below: dict[str, State] = {}
    for prefix in sorted(prefixes, key=lambda prefix: (-len(prefix), prefix)):
        below[prefix] = {name[len(prefix) :]: state[name] for name in beside if name.startswith(prefix)}
        beside = [name for name in beside if not name.startswith(prefix)]
    return below, beside


def _prefix(name: str, matches: Callable[[str, int], bool]) -> str | None:
    """What stands before the name of a model, with its last dot; None where no rest of the name matches."""
    start = 0
    while not matches(name, start):
        end = name.find(".", start)
        if end < 0 or not _says_nothing(name[start:end]):
            return None
        start = end + 1
    return name[:start]


def _without_extras(state: State, extras: re.Pattern[str] | None, names: Collection[str]) -> State:
    """The state dict without what only training needs, and of CLIP's towers only the image tower."""
    kept = {name: value for name, value in state.items() if name in names or not (extras and extras.match(name))}
    tower = {name: value for name, value in kept.items() if name.startswith(IMAGE_TOWER)}
    return tower or kept


def _says_nothing(part: str) -> bool:
    """Whether a part of a prefix says where a model was used, or that it is an average, and not what it is."""
    return part in PREFIXES or part.isdecimal() or _AVERAGED.search(part) is not None


def _choose(models: dict[str, _Model], path: str | Path, entry: str) -> str:
    """The label of the model to read."""
    if len(models) == 1:
        return next(iter(models))
    if entry:
        matching = [label for label in models if _names(label, entry)]
    else:
        ranks = {label: _rank(label, models) for label in models}
        matching = [label for label in models if ranks[label] == min(ranks.values())]
    if len(matching) != 1:
        number = "none" if not matching else "several"
        asked = f"MODEL.CHECKPOINT_ENTRY {entry!r} names {number} of them; " if entry else ""
        raise UserError(
            f"checkpoint {path}: holds {len(models)} models, {', '.join(map(repr, list(models)[:SHOWN]))}; {asked}set "
            "MODEL.CHECKPOINT_ENTRY to the one to read"
        )
    return matching[0]


def _rank(label: str, models: dict[str, _Model]) -> int:
    """Which of several models comes first, from 0; a re-identification model's student and teacher rank the same."""
    *parents, last = label.split(".")
    if _STUDENT.search(label) or ".".join([*parents, f"target_{last}"]) in models:
        return 1 if any(map(REID.match, models[label].state)) else 2
    return 1 if _AVERAGED.search(label) else 0


def _names(label: str, entry: str) -> bool:
    return label == entry or entry in label.split(".")


def _note(content: dict, models: dict[str, _Model], label: str, entry: str) -> str:
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


def _group(names: Iterable[str]) -> str:
    """Names by their first parts, with the number of each: `head.* (12), decoder_* (52), mask_token`."""
    groups = Counter(
        "decoder_*" if name.startswith("decoder_") else f"{name.split('.')[0]}.*" if "." in name else name
        for name in names
    )
    shown = [f"{group} ({count})" if group.endswith("*") else group for group, count in groups.items()]
    return ", ".join(shown[:SHOWN_GROUPS]) + (f" and {len(shown) - SHOWN_GROUPS} more" if shown[SHOWN_GROUPS:] else "")
