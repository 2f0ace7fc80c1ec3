"""Tells the format of a checkpoint by its first bytes, and finds damage and decompression bombs before it is loaded."""

import io
import pickle
import pickletools
import re
import zipfile
import zlib
from typing import BinaryIO

from utils.errors import UserError

MIB = 2**20
# Bytes of the pickle with names, shapes and plain values; of a ViT-H with its optimizer it has less than 1 MiB.
MAX_PICKLE = 8 * MIB
MAX_MEMBERS = 100_000
MAX_TUPLE = 1_000_000  # values in a tuple and those within it
MAX_DIRECTORY = 32 * MIB  # a zip archive's list of members, about 90 bytes each
CHUNK = 4 * MIB

_LEGACY_MAGIC = b"l\xfc\x9cF\xf9 j\xa8P\x19"  # torch.save before 1.6: the number 0x1950a86a20f9469cfc6c, pickled
# Callables that torch.load allows, and that make large objects from small files.
_BOMBS = {"builtins bytearray", "__builtin__ bytearray"}
_ENCODE = "_codecs encode"  # harmless from text to bytes; codecs from bytes to bytes can be chained to a bomb
_BYTE_CODEC = re.compile(r"(?i)\W*(hex|base64|bz2|quopri|quoted|uu|zlib|zip|rot)[\w\s.-]*")

SCRIPT_TENSORS = re.compile(r"^[^/]*/(data\.pkl|byteorder|data/[^/]*)$")  # what is read of a TorchScript archive

_SAVE_STATE = "where it comes from, save the model's state_dict() with torch.save, and give that file"
_UNPACK = "unpack it and give the checkpoint in it"
_ASK_AGAIN = "what was downloaded is not the file itself; fetch it from a browser or with the site's own tool"
# First bytes, kind of file, what to do.
_KINDS = (
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the file that it stands for with git lfs pull"),
    (b"\x93NUMPY", "a NumPy array (.npy)", _SAVE_STATE),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras and MATLAB write them", _SAVE_STATE),
    (b"MATLAB ", "a MATLAB file", _SAVE_STATE),
    (b"GGUF", "a GGUF file", _SAVE_STATE),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ\x00", "an xz archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"%PDF", "a PDF document", "give the checkpoint"),
    (b"\x89PNG", "a PNG image", "give the checkpoint"),
    (b"\xff\xd8\xff", "a JPEG image", "give the checkpoint"),
)


def kind_of(handle: BinaryIO, path: str) -> str:
    """The format of a checkpoint: "zip" (torch.save), "legacy" (torch.save before 1.6) or "safetensors".

    Args:
        handle: the file, at any position; left at the start.
        path: for messages.

    Raises:
        UserError: another kind of file; the message says which, and what to do.
    """
    handle.seek(0)
    head = handle.read(4096)
    handle.seek(0)
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if _LEGACY_MAGIC in head[:32]:
        return "legacy"
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= MAX_PICKLE:
        return "safetensors"
    what, advice = _foreign_kind(head)
    raise UserError(f"checkpoint {path}: is {what}, not a checkpoint of torch.save or safetensors; {advice}")


def _foreign_kind(head: bytes) -> tuple[str, str]:
    """The kind of file that begins with `head`, and what to do."""
    for start, what, advice in _KINDS:
        if head.startswith(start):
            return what, advice
    if not head:
        return "empty", "fetch it anew"
    if not head.strip(b"\0"):
        return "nothing but zeros, as a download that broke off leaves it", "fetch it anew"
    if head[257:262] == b"ustar" or (b"\0" * 64 in head[:512] and re.match(rb"[\w./-]+\0", head)):
        return "a tar archive (of torch before 0.4, or of packed files)", f"{_UNPACK}; or, {_SAVE_STATE}"
    if re.match(rb"\x80[\x02-\x05]", head) or (re.match(rb"[(c]\w+", head) and b"\n" in head[:200]):
        reason = "opening one can run any code, so it needs arbitrary unpickling, which is refused"
        return "a plain pickle (of pickle.dump or joblib)", f"{reason}; {_SAVE_STATE}"
    if re.match(rb"\x08[\x01-\x0f]\x12", head) or b"onnx" in head[:200] or b"pytorch" in head[:64]:
        return "an ONNX model", _SAVE_STATE
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model", _SAVE_STATE
    text = head.decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")
    if re.match(r"(?i)<(!doctype|html|\?xml|head|body|!--)", text):
        return "a web page (HTML or XML)", _ASK_AGAIN
    if text.startswith(("{", "[")) and text.isprintable() | ("\ufffd" not in text):
        return f"a JSON text ({text[:60]!r})", _ASK_AGAIN
    if "\ufffd" not in text[:-1] and "\0" not in text:
        return f"a text ({text[:60]!r})", _ASK_AGAIN
    return f"of no known format (it begins with {head[:16]!r})", f"fetch it anew, or, {_SAVE_STATE}"


def check_zip(handle: BinaryIO, path: str) -> bool:
    """Checks a zip file of torch.save: its list of members, that none is compressed, the checksums, and the pickle.

    Of a TorchScript archive, only the tensors and the pickle of its modules are checked: nothing else is read from it.
    Takes about 0.25 s for 350 MB. torch can write files without checksums; those are not compared.

    Returns:
        Whether it is a TorchScript archive.

    Raises:
        UserError: another kind of archive, damage, or a decompression bomb.
    """
    try:
        if _directory_size(handle) > MAX_DIRECTORY:
            raise zipfile.BadZipFile("its list of members is too long for a checkpoint")
        archive = zipfile.ZipFile(handle)
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError) as error:
        raise UserError(
            f"checkpoint {path}: cannot be read ({error}); it is damaged or incomplete, fetch it anew"
        ) from error
    members = archive.infolist()
    is_script = _is_torchscript([member.filename for member in members], path)
    _check_members(members, handle.seek(0, io.SEEK_END), path, is_script=is_script)
    members = [member for member in members if not is_script or SCRIPT_TENSORS.search(member.filename)]
    checked = any(member.CRC for member in members)  # torch writes 0 everywhere where it computes none
    for member in members:
        pickled = member.filename.endswith("data.pkl")
        if pickled and member.file_size > MAX_PICKLE:
            raise UserError(
                f"checkpoint {path}: names and plain values take {member.file_size / MIB:.0f} MiB, expected at most "
                f"{MAX_PICKLE // MIB}; {_SAVE_STATE}"
            )
        if checked or pickled:
            content = _read_member(archive, member, path, checked=checked)
            if pickled:
                check_pickle(io.BytesIO(content), path)
    handle.seek(0)
    return is_script


def _directory_size(handle: BinaryIO) -> int:
    """Bytes of a zip archive's list of members, from the records at its end; 0 where there are none."""
    handle.seek(max(0, handle.seek(0, io.SEEK_END) - 2**17))
    tail = handle.read()
    short, long = tail.rfind(b"PK\x05\x06"), tail.rfind(b"PK\x06\x06")
    sizes = [int.from_bytes(tail[short + 12 : short + 16], "little")] if short >= 0 and long < 0 else []
    return max([*sizes, int.from_bytes(tail[long + 40 : long + 48], "little") if long >= 0 else 0])


def _is_torchscript(names: list[str], path: str) -> bool:
    """Whether a zip archive is one of TorchScript; False for torch.save.

    Raises:
        UserError: another archive: torch.export, NumPy and the like.
    """
    endings = {name.rsplit("/", 1)[-1] for name in names}
    other = ""
    if "archive_format" in endings or any(name.endswith("models/model.json") for name in names):
        other, advice = "a program of torch.export (.pt2)", "give the checkpoint that it was exported from"
    elif names and all(name.endswith(".npy") for name in names):
        other, advice = "NumPy arrays (.npz)", _SAVE_STATE
    elif "data.pkl" not in endings:
        other, advice = f"a zip archive of {', '.join(names[:3]) or 'nothing'}", _UNPACK
    if other:
        raise UserError(f"checkpoint {path}: is {other}, not a checkpoint of torch.save; {advice}")
    return "constants.pkl" in endings or any("/code/" in name for name in names)


def _check_members(members: list[zipfile.ZipInfo], file_size: int, path: str, *, is_script: bool) -> None:
    """Checks that the members lie one after the other in the file, uncompressed, each under its own name; TorchScript
    compresses its code."""
    errors = []
    if len(members) > MAX_MEMBERS:
        errors = [f"has {len(members)} members, expected at most {MAX_MEMBERS}"]
    elif len({member.filename for member in members}) < len(members):
        errors = ["has two members of one name"]
    end = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        packed = member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size
        if packed and not (is_script and not SCRIPT_TENSORS.search(member.filename)):
            errors.append(f"compresses {member.filename}, which torch never does")
        elif member.header_offset < end or member.header_offset + member.compress_size > file_size:
            errors.append(f"tells a false place or size of {member.filename}")
        end = member.header_offset + member.compress_size
    if errors:
        raise UserError(
            f"checkpoint {path}: cannot be read (the zip archive {errors[0]}); it is not as torch.save wrote it, fetch "
            "it anew"
        )


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: str, *, checked: bool) -> bytes:
    """Reads a member and verifies its checksum; returns the content of the pickle, b"" for others."""
    try:
        if not checked:
            member.CRC = None  # type: ignore[assignment]  # zipfile then compares nothing
        with archive.open(member) as stream:
            if member.filename.endswith("data.pkl"):
                return stream.read()
            while stream.read(CHUNK):
                pass
        return b""
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"checkpoint {path}: cannot be read (the check sum of {member.filename} is wrong); it is damaged, fetch it "
            "anew"
        ) from error


def check_pickle(stream: BinaryIO, path: str) -> None:
    """Checks that a pickle makes nothing large from few bytes: no such calls, no tuples of tuples that stand for
    millions of values, whose hash takes for ever. torch.load refuses other calls.

    Raises:
        UserError: it does, or it is damaged.
    """
    calls: set[str] = set()
    texts: set[str] = set()
    tuples = _Tuples()
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            tuples.follow(opcode, argument)
            if opcode.name in ("GLOBAL", "INST"):
                calls.add(str(argument))
            elif isinstance(argument, str):
                texts.add(argument)
            elif opcode.name in ("LONG_BINPUT", "LONG_BINGET") and int(argument or 0) > MAX_PICKLE:
                raise ValueError(f"memo {argument}")
    except (ValueError, IndexError, KeyError, UnicodeDecodeError, OverflowError, pickle.UnpicklingError) as error:
        raise UserError(
            f"checkpoint {path}: cannot be read (its list of names: {str(error)[:80]}); it is damaged, fetch it anew"
        ) from error
    found = sorted(calls & _BOMBS)
    if _ENCODE in calls and any(_BYTE_CODEC.fullmatch(text) for text in texts):
        found.append(_ENCODE)
    if found:
        raise UserError(
            f"checkpoint {path}: holds more than tensors and plain values ({found[0].replace(' ', '.')}); {_SAVE_STATE}"
        )


class _Tuples:
    """Follows a pickle's stack for the number of values in each tuple, where tuples that occur twice count twice."""

    def __init__(self) -> None:
        self.stack: list[int] = []  # values in each object on the stack
        self.marks: list[int] = []
        self.memo: dict[object, int] = {}

    def follow(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        """Raises ValueError for a tuple of more than MAX_TUPLE values."""
        if opcode.name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
            return
        if opcode.name == "MARK":
            self.marks.append(len(self.stack))
            return
        taken = len(opcode.stack_before)
        if pickletools.markobject in opcode.stack_before:  # what stands before the mark comes with its own entry
            taken = len(self.stack) - self.marks.pop() + opcode.stack_before.index(pickletools.markobject)
        height = len(self.stack) - taken
        values = self.stack[height:]
        del self.stack[height:]
        if opcode.name in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self.memo[argument])
        elif opcode.name.startswith("TUPLE"):
            self.stack.append(1 + sum(values))
            if self.stack[-1] > MAX_TUPLE:
                raise ValueError(f"a tuple of more than {MAX_TUPLE} values")
        else:
            self.stack.extend([1] * len(opcode.stack_after))


def check_legacy(handle: BinaryIO, path: str) -> None:
    """`check_pickle` for the five pickles at the start of a file of torch.save before 1.6, which has no checksums."""
    handle.seek(0)
    head = io.BytesIO(handle.read(MAX_PICKLE))
    for _ in range(5):
        check_pickle(head, path)
    handle.seek(0)
