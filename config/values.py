"""Types of values: texts parsed as the command line gives them, and the type that a key's default asks for."""

import ast
import re
from typing import Any

from utils.user_paths import expand_path
from utils.yaml_text import NotYamlError, load_yaml

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
# Keys that name files and directories; ~ and environment variables in them are expanded.
PATH_KEYS = {
    "OUTPUT_DIR",
    "MODEL.PRETRAIN_PATH",
    "DATASETS.ROOT_DIR",
    *(f"DATASETS.FOLDER.{split}" for split in ("TRAIN", "QUERY", "GALLERY")),
    "DATASETS.CSV.FILE",
    *(f"TEST.{name}" for name in ("WEIGHT", "EXPORT", "COMPARE")),
    *(f"CFAT.{stage}.WEIGHT" for stage in ("CLEAN", "CORRUPTED", "BRIDGE", "ALIGN")),
}

_TYPE_NAMES = {bool: "True or False", int: "an integer", float: "a number", str: "a string"}
_PLURALS = {int: "integers", float: "numbers", str: "strings"}

_TUPLE = re.compile(r"\s*\((.*)\)\s*", re.DOTALL)
_QUOTED = re.compile(r"""\s*(\(\s*)?[rRuU]?(['"]).*\2(\s*,?\s*\))?\s*""", re.DOTALL)
_BARE_LIST = re.compile(r"\s*[-+.\w]+(\s*,\s*[-+.\w]+)+\s*")
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
    """Reads a YAML number, boolean or list, the text of a Python tuple as a list, and what stands in quotes as text.

    A tuple's text with one element and no comma, such as ('0'), is that element. Any other text is returned as it is.

    Raises:
        UserError: a number that is too large, or a text beyond the limits of utils.yaml_text.
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


def describe_type(key: str, default: Any) -> str:
    """Says what a value of `key` must be, for error messages, e.g. "a list of 2 integers"."""
    if not isinstance(default, list):
        return _TYPE_NAMES[type(default)]
    length = f"{FIXED_LENGTHS[key]} " if key in FIXED_LENGTHS else ""
    return f"a list of {length}{_PLURALS[_element_type(default)]}"


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


def coerce(key: str, value: Any, default: Any) -> Any:
    """Converts `value` to the type of `default` where nothing is lost by it, and expands paths.

    Integers and texts such as '1e-4' become numbers, tuples become lists, and a single element stands for a list of one
    unless the length is fixed.

    Args:
        key: dotted name; it decides whether a list has a fixed length, and whether texts are paths.
        value: what a YAML file or the command line gave.
        default: the value of `key` in the defaults.

    Returns:
        The converted value.

    Raises:
        TypeError: it is of another type or length; `describe_type` says what was expected.
        UserError: a number that is too large, or a path that cannot be expanded.
    """
    if not isinstance(default, list):
        return _scalar(key, value, type(default))
    if isinstance(value, str):
        value = parse_text(value)
    if not isinstance(value, list | tuple):
        if key in FIXED_LENGTHS:
            raise TypeError(key)
        value = [value]
    if len(value) != FIXED_LENGTHS.get(key, len(value)):
        raise TypeError(key)
    return [_scalar(key, element, _element_type(default)) for element in value]


def text_keys(defaults: dict[str, Any]) -> set[str]:
    """Keys whose scalars are text as written in a YAML file; "KEY.[]" for the elements of a list of texts."""
    texts = {key for key, default in defaults.items() if isinstance(default, str)}
    lists = {key for key, default in defaults.items() if isinstance(default, list) and _element_type(default) is str}
    return texts | lists | {f"{key}.[]" for key in lists}


def _element_type(default: list) -> type:
    return type(default[0]) if default else str


def _scalar(key: str, value: Any, wanted: type) -> Any:
    if wanted is str:
        if not isinstance(value, str):
            raise TypeError(key)
        text = _unquote(key, value)
        return expand_path(text, key) if key in PATH_KEYS else text
    value = plain(value)
    if wanted is float and type(value) is int:
        return float(value)
    # bool is a subclass of int: SEED True would be seed 1.
    if type(value) is not wanted:
        raise TypeError(wanted.__name__)
    return value


def _unquote(key: str, text: str) -> str:
    """The text within quotes, as yacs reads 'a', or within a tuple's text, ('a') or ('a',); else the text itself."""
    if not _QUOTED.fullmatch(text):
        return text
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    if isinstance(value, tuple):
        if len(value) != 1:
            raise TypeError(key)
        (value,) = value
    return value if isinstance(value, str) else text
