"""Types of values: texts parsed as the command line gives them, and the type that a key's default asks for."""

import ast
from typing import Any

import yaml

# Lists whose length carries meaning: (height, width), (rows, columns), (a, b) and one number per RGB channel.
FIXED_LENGTHS = {
    "MODEL.STRIDE_SIZE": 2,
    "MODEL.PRETRAIN_SIZE": 2,
    "INPUT.SIZE_TRAIN": 2,
    "INPUT.SIZE_TEST": 2,
    "INPUT.PIXEL_MEAN": 3,
    "INPUT.PIXEL_STD": 3,
    "INPUT.MIXING_COEFF": 2,
}

_TYPE_NAMES = {bool: "True or False", int: "an integer", float: "a number", str: "a string"}
_PLURALS = {int: "integers", float: "numbers", str: "strings"}


def parse_text(text: str) -> Any:
    """Reads a Python literal, or failing that a YAML number, boolean or list; any other text is returned as it is."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return text
    return value if isinstance(value, bool | int | float | list) else text


def describe_type(key: str, default: Any) -> str:
    """Says what a value of `key` must be, for error messages, e.g. "a list of 2 integers"."""
    if not isinstance(default, list):
        return _TYPE_NAMES[type(default)]
    length = f"{FIXED_LENGTHS[key]} " if key in FIXED_LENGTHS else ""
    return f"a list of {length}{_PLURALS[_element_type(default)]}"


def coerce(key: str, value: Any, default: Any) -> Any:
    """Converts `value` to the type of `default` where nothing is lost by it.

    Integers and texts such as "1e-4" (which YAML 1.1 reads as a string) become numbers, tuples become lists, and a
    single element stands for a list of one unless the length is fixed.

    Args:
        key: dotted name; it decides whether a list has a fixed length.
        value: what a YAML file or the command line gave.
        default: the value of `key` in the defaults.

    Returns:
        The converted value.

    Raises:
        TypeError: it is of another type or length; `describe_type` says what was expected.
    """
    if not isinstance(default, list):
        return _scalar(value, type(default))
    if isinstance(value, str):
        value = parse_text(value)
    if not isinstance(value, list | tuple):
        if key in FIXED_LENGTHS:
            raise TypeError(key)
        value = [value]
    if len(value) != FIXED_LENGTHS.get(key, len(value)):
        raise TypeError(key)
    return [_scalar(element, _element_type(default)) for element in value]


def _element_type(default: list) -> type:
    return type(default[0]) if default else str


def _scalar(value: Any, wanted: type) -> Any:
    if isinstance(value, str):
        parsed = parse_text(value)
        if wanted is str:
            # Quotes within the text are taken off as yacs does; 2024 or None stay the names that they are here.
            return parsed if isinstance(parsed, str) else value
        value = parsed
    if wanted is float and type(value) is int:
        return float(value)
    # bool is a subclass of int: SEED True would be seed 1.
    if type(value) is not wanted:
        raise TypeError(wanted.__name__)
    return value
