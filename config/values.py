"""Values of the type that a key asks for, from YAML files and from the texts of the command line."""

import ast
import re
from collections.abc import Mapping
from typing import Any

from config.schema import Key
from utils.files import expand_path
from utils.yaml_reader import NotYamlError, load_yaml

_TYPE_NAMES = {bool: "True or False", int: "an integer", float: "a number", str: "a string"}
_PLURALS = {int: "integers", float: "numbers", str: "strings"}

_TUPLE = re.compile(r"\s*\((.*)\)\s*", re.DOTALL)
_QUOTED = re.compile(r"""\s*(\(\s*)?[rRuU]?(['"]).*\2(\s*,?\s*\))?\s*""", re.DOTALL)
_BARE_LIST = re.compile(r"\s*[-+.\w]+(\s*,\s*[-+.\w]+)+\s*")
_SWITCHES = {"on": True, "yes": True, "off": False, "no": False}
_MAX_HINTED = 100  # characters of a text, or elements of a list, that hints look at
# What another notation means by a text that is no number in YAML 1.2 -> what to write instead.
_OTHER_NUMBERS = (
    (re.compile(r"[-+]?[0-9]+(_[0-9]+)+(\.[0-9_]*)?"), lambda text: f"write {text.replace('_', '')}"),
    (re.compile(r"[-+]?0[bB][01]+"), lambda text: f"write {int(text, 2)}"),
    (re.compile(r"[-+]?0[oO][0-7]+"), lambda text: f"write {int(text, 8)}"),
    (re.compile(r"[-+]?0[xX][0-9a-fA-F]+"), lambda text: f"write {int(text, 16)}"),
    (re.compile(r"[0-9]+(:[0-9]+)+(\.[0-9]*)?"), lambda text: "numbers to the base of 60 are not read, write it out"),
    (re.compile(r"[-+]?[0-9]+,[0-9]+"), lambda text: f"decimals have a point: {text.replace(',', '.')}"),
)


def parse_text(text: str) -> Any:
    """Reads a YAML number, boolean or list, the text of a Python tuple as a list, and a quoted text without its quotes.

    A tuple's text with one element and no comma, such as ('0'), is that element. Any other text is returned unchanged.

    Raises:
        UserError: a number is too large, or the text exceeds the limits of utils.yaml_reader.
    """
    inside = _TUPLE.fullmatch(text)
    quoted = bool(inside) or text.lstrip()[:1] in ("'", '"')
    try:
        value = load_yaml(f"[{inside[1]}]" if inside else text, "value")
    except NotYamlError:
        return text
    if inside and len(value) == 1 and not inside[1].rstrip().endswith(","):
        value = value[0]
    return value if isinstance(value, bool | int | float | list) or (quoted and isinstance(value, str)) else text


def plain(value: Any) -> Any:
    """The value behind a text such as 'False' or "('before')", within up to three quotes and parentheses."""
    for _ in range(3):
        if isinstance(value, str):
            value = parse_text(value)
    return value


def switch(value: Any) -> Any:
    """The boolean that a text such as 'off' or 'yes' means; any other value unchanged."""
    return _SWITCHES.get(value.lower(), value) if isinstance(value, str) else value


def same(one: Any, other: Any) -> bool:
    """Equality in which True is not 1, and 0.0 is 0."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def describe_type(key: Key) -> str:
    """What a value of the key must be, for error messages, e.g. "a list of 2 integers"."""
    if not isinstance(key.default, list):
        return _TYPE_NAMES[type(key.default)]
    length = f"{key.rule.length} " if key.rule.length else ""
    return f"a list of {length}{_PLURALS[_element_type(key.default)]}"


def number_hint(value: Any, *, is_list: bool = False) -> str:
    """What to write instead, for a text that another notation than YAML 1.2 reads as a number, or where a list is
    expected, as numbers; "" for others."""
    if is_list and isinstance(value, str) and len(value) <= _MAX_HINTED and _BARE_LIST.fullmatch(value):
        return f"; write [{value.strip()}]"
    for text in value[:_MAX_HINTED] if isinstance(value, list) else [value]:
        if not isinstance(text, str) or len(text) > _MAX_HINTED:
            continue
        found = plain(text)
        if isinstance(found, list):
            return number_hint([element for element in found if isinstance(element, str)])
        for pattern, hint in _OTHER_NUMBERS:
            if isinstance(found, str) and pattern.fullmatch(found):
                return f"; {hint(found)}"
    return ""


def coerce(name: str, value: Any, key: Key) -> Any:
    """Converts a value to the type of the key's default where nothing is lost by it, and expands paths.

    Integers and texts such as '1e-4' become numbers, tuples become lists, and a single element becomes a list of one
    unless the length is fixed.

    Args:
        name: dotted name of the key, for messages.
        value: what a YAML file or the command line gave.
        key: default, rule and whether it is a path.

    Returns:
        The converted value.

    Raises:
        TypeError: it is of another type or length; `describe_type` says what was expected.
        UserError: a number is too large, or a path cannot be expanded.
    """
    if not isinstance(key.default, list):
        return _coerce_scalar(name, value, type(key.default), key.is_path)
    if isinstance(value, str):
        value = parse_text(value)
    if not isinstance(value, list | tuple):
        value = [value]
    if key.rule.length not in (None, len(value)):
        raise TypeError(name)
    return [_coerce_scalar(name, element, _element_type(key.default), key.is_path) for element in value]


def text_keys(schema: Mapping[str, Key]) -> set[str]:
    """Keys whose scalars are text as written in a YAML file; "KEY.[]" for the elements of a list of texts."""
    texts = {name for name, key in schema.items() if isinstance(key.default, str)}
    lists = {
        name for name, key in schema.items() if isinstance(key.default, list) and _element_type(key.default) is str
    }
    return texts | lists | {f"{name}.[]" for name in lists}


def _element_type(default: list) -> type:
    return type(default[0]) if default else str


def _coerce_scalar(name: str, value: Any, wanted: type, is_path: bool) -> Any:
    if wanted is str:
        if not isinstance(value, str):
            raise TypeError(name)
        text = _unquote(name, value)
        return expand_path(text, name) if is_path else text
    value = plain(value)
    if wanted is float and type(value) is int:
        return float(value)
    # bool is a subclass of int: SEED True would be seed 1.
    if type(value) is not wanted:
        raise TypeError(name)
    return value


def _unquote(name: str, text: str) -> str:
    """The text within quotes, as yacs reads 'a', or within a tuple's text, ('a') or ('a',); else the text itself."""
    if not _QUOTED.fullmatch(text):
        return text
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    if isinstance(value, tuple):
        if len(value) != 1:
            raise TypeError(name)
        (value,) = value
    return value if isinstance(value, str) else text
