"""Checks of values read from a checkpoint's state or meta, before they are used.

Functions raise ValueError with the name of the wrong value; the caller adds the file.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from utils.yaml_reader import load_mapping

SCALARS = (str, int, float, bool, type(None))


def expect(value: Any, kind: type | tuple[type, ...], name: str) -> Any:
    """`value`, which is of `kind`."""
    if not isinstance(value, kind):
        raise ValueError(f"{name}: found {_shown(value)}, expected {_NAMES.get(kind) or kind}")
    return value


def expect_number(value: Any, kind: type, name: str, high: float, *, low: float = 0) -> Any:
    """`value`, an int, or a float or an int where `kind` is float, from `low` to `high`."""
    kinds = (int, float) if kind is float else (int,)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        raise ValueError(f"{name}: found {_shown(value)}, expected {_NAMES[kind]} from {low} to {high}")
    return value


def expect_rows(value: Any, name: str, *, count: int | None = None) -> list[dict[str, float]]:
    """`value`, a list of dicts of numbers, `count` of them."""
    rows = expect(value, list, name)
    if count is not None and len(rows) != count:
        raise ValueError(f"{name}: found {len(rows)} rows, expected {count}")
    for row in rows:
        for key, number in expect(row, dict, name).items():
            expect_number(number, float, f"{name}, {key!s:.40}", math.inf, low=-math.inf)
    return rows


def check_alike(found: Any, expected: Any, name: str) -> None:
    """Makes sure that a state has the structure of another one of the same part: names, lengths, types, and the shapes
    and dtypes of tensors. Values that are None in either, and an optimizer's state, are not compared."""
    if found is None or expected is None:
        return
    if isinstance(expected, torch.Tensor):
        tensor = expect(found, torch.Tensor, name)
        if tensor.shape != expected.shape or tensor.dtype != expected.dtype:
            raise ValueError(
                f"{name}: found {tensor.dtype} {tuple(tensor.shape)}, expected {expected.dtype} {tuple(expected.shape)}"
            )
    elif isinstance(expected, Mapping):
        if expect(found, Mapping, name).keys() != expected.keys():
            names = sorted(map(str, found.keys() ^ expected.keys()))
            raise ValueError(f"{name}: {', '.join(names[:3]):.200} missing or unknown")
        for key, value in expected.items():
            if (name, key) != ("optimizer", "state"):
                check_alike(found[key], value, f"{name}.{key}")
    elif isinstance(expected, list | tuple):
        if len(expect(found, (list, tuple), name)) != len(expected):
            raise ValueError(f"{name}: found {len(found)} values, expected {len(expected)}")
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            check_alike(one, other, f"{name}.{number}")
    elif isinstance(expected, int | float) and not isinstance(expected, bool):
        expect_number(found, float, name, math.inf, low=-math.inf)
    else:
        expect(found, type(expected), name)


def check_optimizer_state(optimizer: torch.optim.Optimizer) -> None:
    """Makes sure that a loaded state fits the optimizer's parameters: torch's own optimizers keep numbers, and tensors
    of the parameter's shape."""
    if not type(optimizer).__module__.startswith("torch.optim"):
        return  # timm's may keep factors of other shapes
    for parameter, kept in optimizer.state.items():
        for name, value in expect(kept, dict, "optimizer.state").items():
            if isinstance(value, torch.Tensor) and value.dim() and value.shape != parameter.shape:
                raise ValueError(
                    f"optimizer.state, {name}: found {tuple(value.shape)}, expected {tuple(parameter.shape)}"
                )


def flat_config(text: str) -> dict[str, Any]:
    """The values in the text of a configuration, by dotted key."""
    return dict(_leaves(load_mapping(text, "config"), ""))


def _leaves(values: dict, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(value: Any) -> str:
    return f"{value!r:.60}" if isinstance(value, SCALARS) else f"a {type(value).__name__}"


_NAMES: dict[Any, str] = {
    dict: "a dict",
    Mapping: "a dict",
    list: "a list",
    (list, tuple): "a list",
    str: "a string",
    int: "a whole number",
    float: "a number",
    torch.Tensor: "a tensor",
}
