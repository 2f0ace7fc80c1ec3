"""Reads the parameters of a TorchScript archive, such as OpenAI's CLIP files, without its program.

torch.jit.load would compile the archive's code and run what it has for loading (`__setstate__` of any class), which may
write files and need not end. Here no code is unpacked, and not even pickle's machine runs: the few instructions of
which the module tree consists are read one by one, everything else is refused, and tensors are views of the archive's
storages. Format: https://github.com/pytorch/pytorch/blob/main/torch/csrc/jit/docs/serialization.md
"""

import pickletools
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

import torch

from utils.checkpoint_integrity import SCRIPT_TENSORS

MAX_NAMES = 100_000  # of attributes; a module that is used in several places counts in each
MAX_DEPTH = 64  # modules within modules

_DTYPES = {
    **{"HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16, "FloatStorage": torch.float32},
    **{"DoubleStorage": torch.float64, "ByteStorage": torch.uint8, "CharStorage": torch.int8},
    **{"ShortStorage": torch.int16, "IntStorage": torch.int32, "LongStorage": torch.int64, "BoolStorage": torch.bool},
}
# Instructions that push their argument, a value, or do nothing.
_PLAIN = {"BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Global(NamedTuple):
    """A class or function by name; nothing is imported."""

    module: str
    name: str


class _Storage(NamedTuple):
    key: str
    dtype: torch.dtype


class _View(NamedTuple):
    """A tensor: a view of a storage."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass
class _Module:
    """An object of a class of the archive: its attributes by name."""

    attributes: dict[str, Any] = field(default_factory=dict)


def read_torchscript(handle: BinaryIO) -> dict[str, torch.Tensor]:
    """Reads the parameters and buffers of a TorchScript archive, and other tensors that its modules hold.

    Args:
        handle: the archive; `utils.checkpoint_integrity.check_zip` has checked its members.

    Returns:
        A state dict, on the CPU, of the archive's dtypes.

    Raises:
        ValueError: it holds objects of other classes than the archive's own ("unsupported class"), or is damaged.
        LookupError, TypeError, RuntimeError: it is damaged.
    """
    with zipfile.ZipFile(handle) as archive:
        names = set(archive.namelist())
        root = next(name for name in names if name.endswith("/data.pkl")).removesuffix("data.pkl")
        if f"{root}byteorder" in names and _read_member(archive, f"{root}byteorder") != b"little":
            raise ValueError("its numbers are big-endian")
        module = _read_tree(_read_member(archive, f"{root}data.pkl"))
        if not isinstance(module, _Module):
            raise ValueError("it holds no module")
        views = dict(_views(module))
        keys = {view.storage.key for view in views.values()}
        storages = {key: bytearray(_read_member(archive, f"{root}data/{key}")) for key in keys}
    return {name: _tensor(view, storages[view.storage.key]) for name, view in views.items()}


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    if not SCRIPT_TENSORS.search(name):
        raise ValueError(f"{name} is no place for tensors")
    return archive.read(name)


def _tensor(view: _View, content: bytearray) -> torch.Tensor:
    """The tensor of a view; torch raises where it would reach beyond the storage."""
    dtype = view.storage.dtype
    values = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
    return values.as_strided(view.size, view.stride, view.offset)


def _views(module: _Module) -> Iterator[tuple[str, _View]]:
    """The tensors of a module and of those within it, by dotted name."""
    waiting, count = [("", module, 0)], 0
    while waiting:
        prefix, node, depth = waiting.pop()
        count += len(node.attributes)
        if count > MAX_NAMES or depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_NAMES} attributes, or modules more than {MAX_DEPTH} deep")
        for name, value in node.attributes.items():
            if isinstance(value, _View):
                yield f"{prefix}{name}", value
            elif isinstance(value, _Module):
                waiting.append((f"{prefix}{name}.", value, depth + 1))


def _read_tree(code: bytes) -> Any:
    """Reads the pickle of the module tree."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def pop_to(height: int) -> list[Any]:
        items = stack[height:]
        del stack[height:]
        return items

    for opcode, argument, _ in pickletools.genops(code):
        kind = opcode.name
        if kind in _PLAIN:
            stack.append(argument)
        elif kind in _VALUES:
            stack.append(_VALUES[kind])
        elif kind == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            stack.append(_Global(module, name))
        elif kind == "EMPTY_DICT":
            stack.append({})
        elif kind == "EMPTY_LIST":
            stack.append([])
        elif kind == "MARK":
            marks.append(len(stack))
        elif kind == "TUPLE":
            stack.append(tuple(pop_to(marks.pop())))
        elif kind in _TUPLES:
            stack.append(tuple(pop_to(len(stack) - _TUPLES[kind])))
        elif kind in ("APPEND", "APPENDS"):
            items = pop_to(marks.pop() if kind == "APPENDS" else len(stack) - 1)
            _of_type(stack[-1], list).extend(items)
        elif kind in ("SETITEM", "SETITEMS"):
            items = pop_to(marks.pop() if kind == "SETITEMS" else len(stack) - 2)
            # keys are plain: hashing a tuple of tuples may take for ever
            keys = [_of_type(key, str, int, float) for key in items[::2]]
            _of_type(stack[-1], dict).update(zip(keys, items[1::2], strict=True))
        elif kind in ("BINPUT", "LONG_BINPUT"):
            memo[int(argument or 0)] = stack[-1]
        elif kind in ("BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument or 0)])
        elif kind == "NEWOBJ":
            found, _ = pop_to(len(stack) - 2)
            stack.append(_new_module(found))
        elif kind == "BUILD":
            state = stack.pop()
            _of_type(stack[-1], _Module).attributes = state if isinstance(state, dict) else {}
        elif kind == "REDUCE":
            function, arguments = pop_to(len(stack) - 2)
            stack.append(_call(_of_type(function, _Global), _of_type(arguments, tuple)))
        elif kind == "BINPERSID":
            stack.append(_storage(_of_type(stack.pop(), tuple)))
        elif kind not in ("PROTO", "STOP"):
            raise ValueError(f"unsupported instruction {kind}")
    return stack.pop()


def _of_type(value: Any, *types: type) -> Any:
    if not isinstance(value, types):
        raise TypeError(f"{type(value).__name__} where {types[0].__name__} belongs")
    return value


def _new_module(found: Any) -> _Module:
    module, name = _of_type(found, _Global)
    if module.split(".")[0] != "__torch__":
        raise ValueError(f"unsupported class {module}.{name}")
    return _Module()


def _call(function: _Global, arguments: tuple) -> Any:
    """What a call of the archive stands for; of lists and dicts with types, the list or dict."""
    module, name = function
    if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
        storage, offset, size, stride, *_ = arguments
        return _View(_of_type(storage, _Storage), offset, size, stride)
    if (module, name) == ("collections", "OrderedDict"):
        return {}
    if module == "torch.jit._pickle" and name.startswith(("build_", "restore_type_tag")):
        return arguments[0]
    raise ValueError(f"unsupported class {module}.{name}")


def _storage(entry: tuple) -> _Storage:
    """A storage; what its entry says of the device and the number of values is not needed."""
    kind, found, key, *_ = entry
    module, name = _of_type(found, _Global)
    if kind != "storage" or module != "torch" or name not in _DTYPES:
        raise ValueError(f"unsupported class {module}.{name}")
    return _Storage(_of_type(key, str), _DTYPES[name])
