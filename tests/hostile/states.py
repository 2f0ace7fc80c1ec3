"""Training states and metas that no run wrote: generated from a seed, each a change of a good one.

`broken_states(content, seed)` and `broken_metas(content, seed)` yield (name, content) of what `torch.save` can write.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

NUMBERS = (10**9, 0.5, -5, -1, "3", "", None, True, float("nan"), float("inf"), [1], {"a": 1}, 10**400, 1e300)
WRONG = (None, 0, "text", [], [{}], {"a": []}, float("nan"), torch.zeros(2))
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def _changed(content: dict, change: Callable[[dict], None]) -> dict:
    other = copy.deepcopy(content)
    change(other)
    return other


def _put(content: dict, keys: tuple[Any, ...], value: Any) -> dict:
    def change(other: dict) -> None:
        for name in keys[:-1]:
            other = other[name]
        other[keys[-1]] = value

    return _changed(content, change)


def _without(content: dict, keys: tuple[Any, ...]) -> dict:
    def change(other: dict) -> None:
        for name in keys[:-1]:
            other = other[name]
        del other[keys[-1]]

    return _changed(content, change)


def _tensors(values: Any, keys: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for name, value in items:
        if isinstance(value, torch.Tensor):
            yield (*keys, name)
        else:
            yield from _tensors(value, (*keys, name))


def broken_states(content: dict, seed: int) -> Iterator[tuple[str, dict]]:
    """Changes of the content of a good <stage>_last.pth, {"training": {part: state, "progress": ...}, "meta": ...}."""
    rng = np.random.default_rng(seed)

    def sample(values: tuple) -> list:
        return [values[index] for index in rng.permutation(len(values))[:4]]

    training = content["training"]
    for name in ("epoch", "step", "updates", "best"):
        allowed = {"epoch": (), "step": (10**9,), "updates": (10**9,), "best": (0.5, -1)}[name]
        for value in (10**9, *sample(NUMBERS)):
            if value not in allowed or isinstance(value, bool):
                yield f"{name} {value!r:.40}", _put(content, ("training", "progress", name), value)
    for name in ("history", "evaluations", "sums"):
        for value in sample((*WRONG[:3], [1], [{"loss": "low"}], [{}] * 99 if name == "history" else [[]])):
            yield f"{name} {value!r:.40}", _put(content, ("training", "progress", name), value)
    for name in training:
        yield f"without {name}", _without(content, ("training", name))
        for value in sample(WRONG):
            yield f"{name} {value!r:.40}", _put(content, ("training", name), value)
    for part in ("model", "optimizer", "loss", "generators"):
        tensors = list(_tensors(training[part], ("training", part)))
        for index in rng.permutation(len(tensors))[:3]:
            keys = tensors[index]
            tensor = training
            for name in keys[1:]:
                tensor = tensor[name]
            if tensor.dim():
                other = torch.zeros(*tensor.shape, 2, dtype=tensor.dtype)
                yield f"{keys} of another shape", _put(content, keys, other)
    yield "a scheduler with a method replaced", _put(content, ("training", "scheduler", "step"), 5)
    yield "no training", _without(content, ("training",))
    yield "training a list", {**content, "training": list(training)}


def broken_metas(content: dict, seed: int) -> Iterator[tuple[str, dict]]:
    """Changes of a checkpoint's meta, with an identity and, as earlier versions wrote it, without."""
    rng = np.random.default_rng(seed)
    for value in (value for value in WRONG if value != {}):
        yield f"meta {value!r:.40}", {**content, "meta": value}
        yield f"identity {value!r:.40}", _put(content, ("meta", "identity"), value)
    for name in content["meta"]["identity"]:
        if name not in ("digest", "stage"):
            yield f"identity without {name}", _without(content, ("meta", "identity", name))
            value = (5.5, "x", [3])[rng.integers(3)]
            yield f"identity, {name} {value!r}", _put(content, ("meta", "identity", name), value)
    earlier = _without(content, ("meta", "identity"))
    deep = "a: " + "{a: " * 900 + "1" + "}" * 900
    for value in (BOMB, deep, "a: [", "- 1", "\x00", "x" * 2**21, 7, "!!python/object:os.system {}", "a: &a {b: *a}"):
        yield f"config {value!r:.40}", _put(earlier, ("meta", "config"), value)
