"""Hostile and broken data sets, made afresh from a seed: kind -> inputs, each with what the error must say.

An input is a function (root, rng) that writes below `root` and returns the options of its configuration.
"""

import io
import json
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from PIL import Image

from tests.datasets.readers.make_cuhk03 import make_cuhk03, make_images, protocol_file

Options = list[str]


class Hostile(NamedTuple):
    """An input: `make` writes it, `message` is a regular expression for the error."""

    name: str
    make: Callable[[Path, np.random.Generator], Options]
    message: str


def write_image(path: Path, rng: np.random.Generator) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (12, 6, 3), dtype=np.uint8)).save(path, format="PNG")
    return path


def options(root: Path, name: str, *more: str) -> Options:
    return ["DATASETS.NAMES", name, "DATASETS.ROOT_DIR", str(root), "DATASETS.CHECK_COUNTS", "False", *more]


# ---------------------------------------------------------------- directories


def folder(root: Path, rng: np.random.Generator) -> Options:
    for pid in range(4):
        for number in range(2):
            write_image(root / str(pid) / f"{rng.integers(10**6)}_{number}.png", rng)
    more = ("DATASETS.FOLDER.TRAIN", ".", "DATASETS.FOLDER.QUERY", "", "DATASETS.FOLDER.GALLERY", ".")
    return options(root, "folder", *more)


def in_folder(spoil: Callable[[Path], None]) -> Callable[[Path, np.random.Generator], Options]:
    def make(root: Path, rng: np.random.Generator) -> Options:
        found = folder(root, rng)
        spoil(root)
        return found

    return make


def crosswise(root: Path) -> None:
    for one in range(20):
        (root / f"x{one}").mkdir()
        for other in range(20):
            (root / f"x{one}" / f"l{other}").symlink_to(root / f"x{other}")


def bind_socket(root: Path) -> None:
    here = os.getcwd()
    os.chdir(root / "0")  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("s.jpg")
    finally:
        os.chdir(here)


DIRECTORIES = [
    Hostile("linked crosswise", in_folder(crosswise), "linked crosswise"),
    Hostile("a loop", in_folder(lambda root: (root / "0" / "up").symlink_to("..")), "a loop"),
    Hostile("a link to itself", in_folder(lambda root: (root / "0" / "a.jpg").symlink_to("a.jpg")), "Too many levels"),
    Hostile("a FIFO", in_folder(lambda root: os.mkfifo(root / "0" / "a.jpg")), "no file"),
    Hostile("a socket", in_folder(bind_socket), "no file"),
    Hostile("a device", in_folder(lambda root: (root / "0" / "a.jpg").symlink_to("/dev/zero")), "no file"),
    Hostile("a link to nothing", in_folder(lambda root: (root / "0" / "a.jpg").symlink_to("b.jpg")), "no file"),
    Hostile("/proc", in_folder(lambda root: (root / "0" / "p").symlink_to("/proc")), "lies in /proc"),
    Hostile("/sys", in_folder(lambda root: (root / "s").symlink_to("/sys/class")), "lies in /sys"),
    Hostile(
        "too deep",
        in_folder(lambda root: write_image(root / "/".join("d" * 70) / "a.jpg", np.random.default_rng(0))),
        "deep",
    ),
    Hostile(
        "a name of 250 digits", in_folder(lambda root: (root / "0").rename(root / ("9" * 250))), "expected a number"
    ),
]


# ---------------------------------------------------------------- lists


def csv(text: str | bytes | None = None, *, special: Callable[[Path], None] | None = None):
    def make(root: Path, rng: np.random.Generator) -> Options:
        for name in "abcd":
            write_image(root / f"{name}.png", rng)
        if special:
            special(root / "data.csv")
        else:
            (root / "data.csv").write_bytes(text.encode() if isinstance(text, str) else text)
        return options(root, "csv")

    return make


def sparse(size: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as handle:
            handle.truncate(size)

    return write


ROWS = "path,pid\na.png,1\nb.png,1\nc.png,2\nd.png,2\n"
LISTS = [
    Hostile("a FIFO", csv(special=os.mkfifo), "no regular file"),
    Hostile("/dev/zero", csv(special=lambda path: path.symlink_to("/dev/zero")), "no regular file"),
    Hostile("/proc", csv(special=lambda path: path.symlink_to("/proc/self/status")), "no regular file"),
    Hostile("a directory", csv(special=Path.mkdir), "is a directory"),
    Hostile("4 GiB", csv(special=sparse(2**32)), "expected at most"),
    Hostile("zeros", csv(special=sparse(2**20)), "expected a header"),
    Hostile("a NUL in a path", csv(ROWS + "a\0.png,1\n"), "does not exist"),
    Hostile("400 digits", csv(ROWS + f"a.png,{'9' * 400}\n"), "correct or remove one|expected a number"),
    Hostile("5000 digits", csv(ROWS.replace("1", "9" * 5000)[:-1] + "\nx.png,1"), "does not exist"),
    Hostile("a path of 100,000 characters", csv(ROWS + f"{'a/' * 50_000},1\n"), "does not exist"),
    Hostile("a field beyond the limit", csv(ROWS + f"{'a' * 200_000},1\n"), "no CSV from line 6 on"),
    Hostile("an open quotation mark", csv(ROWS + '"a.png,1\n' * 3), "no CSV"),
    Hostile("100,000 fields", csv(ROWS + "a," * 100_000 + "\n"), "100001 fields, expected 2"),
    Hostile(
        "a path out of the root",
        csv(ROWS + "../../../../../../etc/hostname,1\n"),
        "hostname: cannot be read|hostname.*: is no regular",
    ),
    Hostile("UTF-16", csv(ROWS.encode("utf-16")), "not UTF-8"),
    Hostile(
        "a FIFO in a row",
        lambda root, rng: (csv(ROWS + "f.png,1\n")(root, rng), os.mkfifo(root / "f.png"))[0],
        "does not exist",
    ),
]


# ---------------------------------------------------------------- JSON


JSON_TEXTS = {
    "nested too deep": "[" * 200_000,
    "nested too deep, an object": '{"a":' * 100_000,
    "5000 digits": '{"files": ' + "9" * 5000 + "}",
    "a list": "[]",
    "null": "null",
    "a string": '"files"',
    "no JSON": "{'files': {}}",
    "nothing": "",
}


def manifest(text: str | None = None, *, special: Callable[[Path], None] | None = None):
    def make(root: Path, rng: np.random.Generator) -> Options:
        copy = root / "market1501-C"
        for name in (
            "query/0001_c1s1_1_1.png",
            "bounding_box_test/0001_c2s1_1_1.png",
            "bounding_box_train/2_c1s1_1_1.png",
        ):
            write_image(copy / name, rng)
        if special:
            special(copy / "manifest.json")
        else:
            (copy / "manifest.json").write_text(text)
        return options(root, "market1501-C")

    return make


def listing(name: str, digest: object = "0" * 64) -> str:
    return json.dumps({"files": {name: digest}})


MANIFESTS = [
    *(
        Hostile(name, manifest(text), "manifest.json: (cannot be read|not the manifest)")
        for name, text in JSON_TEXTS.items()
    ),
    Hostile("a FIFO", manifest(special=os.mkfifo), "no regular file"),
    Hostile("/dev/zero", manifest(special=lambda path: path.symlink_to("/dev/zero")), "no regular file"),
    Hostile("1 GiB", manifest(special=sparse(2**30)), "expected at most"),
    Hostile("a name above the copy", manifest(listing("query/../../../etc/hostname")), "expected names like"),
    Hostile("an absolute name", manifest(listing("/etc/hostname")), "expected names like"),
    Hostile("a NUL in a name", manifest(listing("query/a\0.png")), "expected names like"),
    Hostile("a number for a sum", manifest(listing("query/a.png", 10**400)), "expected names like"),
    Hostile("a list of files", manifest('{"files": []}'), "not the manifest"),
]


def contents(text: str | None = None, *, special: Callable[[Path], None] | None = None):
    def make(root: Path, rng: np.random.Generator) -> Options:
        directory = root / "cuhk03" / "images_detected"
        for name in list(make_images("detected"))[:4]:
            write_image(directory / name, rng)
        if special:
            special(directory / "contents.json")
        else:
            (directory / "contents.json").write_text(text)
        return options(root, "cuhk03", "DATASETS.CUHK03.CLASSIC_SPLIT", "1")

    return make


def of_contents(**changes: object) -> str:
    return json.dumps({"people": [2], "pictures": ["1_001_1_01.png"], "testsets": [[[1, 1]]], **changes})


CONTENTS = [
    *(Hostile(name, contents(text), r"contents\.json, .* cannot be read") for name, text in JSON_TEXTS.items()),
    Hostile("a FIFO", contents(special=os.mkfifo), "no regular file"),
    Hostile("a billion people", contents(of_contents(people=[10**9])), "expected numbers of people"),
    Hostile("people as text", contents(of_contents(people=["2"])), "expected numbers of people"),
    Hostile("true people", contents(of_contents(people=[True])), "expected numbers of people"),
    Hostile("no people", contents(of_contents(people=None)), "no list 'people'"),
    Hostile("a name out of the directory", contents(of_contents(pictures=["../../a.png"])), "names of images"),
    Hostile("a name of 5000 digits", contents(of_contents(pictures=["9" * 5000 + "_1_1_1.png"])), "names of images"),
    Hostile("a person who is not there", contents(of_contents(pictures=["9_999_1_01.png"])), "beyond the"),
    Hostile("pairs of three", contents(of_contents(testsets=[[[1, 1, 1]]])), "lists of pairs"),
    Hostile("a split of numbers", contents(of_contents(testsets=[1])), "lists of pairs"),
]


# ---------------------------------------------------------------- HDF5 and MATLAB 5


def mat(change: Callable[[h5py.File, Path], None]):
    def make(root: Path, rng: np.random.Generator) -> Options:
        make_cuhk03(root)
        path = root / "cuhk03" / "cuhk-03.mat"
        with h5py.File(path, "r+") as file:
            change(file, root)
        return options(root, "cuhk03")

    return make


def replace_image(file: h5py.File, make: Callable[[h5py.File], h5py.Dataset]) -> None:
    cells = file[file["detected"][0, 0]]
    new = make(file)
    row = cells[0]
    row[:] = new.ref
    cells[0] = row


def chunks(file: h5py.File, shape: tuple[int, ...], **more: object) -> h5py.Dataset:
    return file.create_dataset("bomb", shape, np.uint8, chunks=tuple(min(size, 64) for size in shape), **more)


def external(file: h5py.File, root: Path) -> h5py.Dataset:
    (root / "secret").write_bytes(os.urandom(3 * 8 * 8))
    return file.create_dataset("out", (3, 8, 8), np.uint8, external=[(str(root / "secret"), 0, 3 * 8 * 8)])


def virtual(file: h5py.File, root: Path) -> h5py.Dataset:
    with h5py.File(root / "other.h5", "w") as other:
        other["secret"] = np.ones((3, 8, 8), np.uint8)
    layout = h5py.VirtualLayout((3, 8, 8), np.uint8)
    layout[:] = h5py.VirtualSource(str(root / "other.h5"), "secret", (3, 8, 8))
    return file.create_virtual_dataset("virtual", layout)


def relink(link: Callable[[Path], object]) -> Callable[[h5py.File, Path], None]:
    def change(file: h5py.File, root: Path) -> None:
        with h5py.File(root / "other.h5", "w") as other:
            other["detected"] = np.zeros((1, 5))
        file.move("detected", "moved")
        file["detected"] = link(root)

    return change


def many_references(file: h5py.File, root: Path) -> None:
    large = file.create_dataset("large", data=np.zeros((3, 2000, 2000), np.uint8), compression="gzip").ref
    for pair in file["detected"][0]:
        file[pair][...] = np.full(file[pair].shape, large, h5py.ref_dtype)


def regular_mat(special: Callable[[Path], None]):
    def make(root: Path, rng: np.random.Generator) -> Options:
        make_cuhk03(root)
        (root / "cuhk03" / "cuhk-03.mat").unlink()
        special(root / "cuhk03" / "cuhk-03.mat")
        return options(root, "cuhk03")

    return make


HDF5 = [
    Hostile(
        "unallocated chunks",
        mat(lambda file, root: replace_image(file, lambda f: chunks(f, (3, 60_000, 60_000)))),
        "of which 0 are stored",
    ),
    Hostile(
        "small unallocated chunks",
        mat(lambda file, root: replace_image(file, lambda f: chunks(f, (3, 64, 64)))),
        "of which 0 are stored",
    ),
    Hostile(
        "a fill value",
        mat(lambda file, root: replace_image(file, lambda f: chunks(f, (3, 900, 900), fillvalue=7))),
        "of which 0 are stored",
    ),
    Hostile(
        "a chunk larger than its array",
        mat(
            lambda file, root: replace_image(
                file,
                lambda f: f.create_dataset(
                    "bomb", (3, 8, 8), np.uint8, chunks=(3, 9000, 9000), maxshape=(None, None, None)
                ),
            )
        ),
        "it was not read",
    ),
    Hostile(
        "external storage", mat(lambda file, root: replace_image(file, lambda f: external(f, root))), "another file"
    ),
    Hostile(
        "a virtual dataset", mat(lambda file, root: replace_image(file, lambda f: virtual(f, root))), "another file"
    ),
    Hostile(
        "an external link", mat(relink(lambda root: h5py.ExternalLink(str(root / "other.h5"), "detected"))), "a link"
    ),
    Hostile("a soft link", mat(relink(lambda root: h5py.SoftLink("/moved"))), "a link"),
    Hostile("a soft link to itself", mat(relink(lambda root: h5py.SoftLink("/detected"))), "a link"),
    Hostile(
        "a group",
        mat(lambda file, root: (file.move("detected", "moved"), file.create_group("detected"))),
        "not an array",
    ),
    Hostile(
        "strings of any length",
        mat(
            lambda file, root: replace_image(
                file, lambda f: f.create_dataset("text", (3, 4, 4), h5py.string_dtype(), fillvalue="x")
            )
        ),
        "it was not read|expected numbers",
    ),
    Hostile("the same array for every image", mat(many_references), "it was not read|times the bytes of the file"),
    Hostile(
        "no reference", mat(lambda file, root: file["detected"].write_direct(np.empty((1, 5), h5py.ref_dtype))), "read"
    ),
    Hostile("a FIFO", regular_mat(os.mkfifo), "no regular file|not found|missing"),
    Hostile("a device", regular_mat(lambda path: path.symlink_to("/dev/zero")), "not found|missing|no regular file"),
    Hostile("32 GiB of nothing", regular_mat(sparse(2**35)), "expected at most"),
]


def protocol(content: Callable[[bytes], bytes] | None = None, *, special: Callable[[Path], None] | None = None):
    def make(root: Path, rng: np.random.Generator) -> Options:
        make_cuhk03(root)
        path = protocol_file(root / "cuhk03", "detected")
        before = path.read_bytes()
        path.unlink()
        if special:
            special(path)
        else:
            path.write_bytes(content(before))
        return options(root, "cuhk03")

    return make


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data


def bomb(head: bytes) -> bytes:
    """A compressed variable of 256 MiB of zeros."""
    squeezed, stream = zlib.compressobj(9), io.BytesIO()
    for _ in range(256):
        stream.write(squeezed.compress(bytes(2**20)))
    return head[:128] + element(15, stream.getvalue() + squeezed.flush())


def nested(head: bytes, depth: int = 20_000) -> bytes:
    """A cell array in a cell array in a cell array ..."""
    parts, size = [element(14, b"")], 8
    for level in range(depth):
        name = element(1, b"filelist" if level == depth - 1 else b"")
        start = element(6, struct.pack("<II", 1, 0)) + element(5, struct.pack("<ii", 1, 1)) + name
        parts.append(struct.pack("<II", 14, len(start) + size) + start)
        size += 8 + len(start)
    return head[:128] + b"".join(reversed(parts))


MAT5 = [
    Hostile("cells in cells", protocol(nested), "cell arrays or structures, expected one"),
    Hostile(
        "compressed cells in cells",
        protocol(lambda content: content[:128] + element(15, zlib.compress(nested(content)[128:]))),
        "cell arrays or structures",
    ),
    Hostile("a compressed variable of 256 MiB", protocol(bomb), "hold more than"),
    Hostile("a FIFO", protocol(special=os.mkfifo), "not found|no regular file"),
    Hostile("1 GiB", protocol(special=sparse(2**30)), "expected at most"),
    Hostile("zeros", protocol(special=sparse(2**20)), "cannot be read"),
    Hostile("cut off", protocol(lambda content: content[: len(content) // 2]), "cannot be read"),
    Hostile(
        "a size of 4 GiB",
        protocol(lambda content: content[:132] + b"\xff\xff\xff\xff" + content[136:]),
        "cannot be read",
    ),
    Hostile("an unknown kind", protocol(lambda content: content[:128] + element(99, bytes(64))), "cannot be read"),
    Hostile("no variables", protocol(lambda content: content[:128]), "cannot be read"),
    Hostile("a web page", protocol(lambda content: b"<!DOCTYPE html>" * 100), "cannot be read"),
]


# ---------------------------------------------------------------- names in Market-1501's layout


def market(name: str):
    def make(root: Path, rng: np.random.Generator) -> Options:
        for path in (
            "bounding_box_train/0002_c1s1_1_1.png",
            "query/0001_c1s1_1_1.png",
            "bounding_box_test/0001_c2s1_1_1.png",
        ):
            write_image(root / "market1501" / path, rng)
        os.close(os.open(os.fsencode(root / "market1501" / "query") + b"/" + os.fsencode(name), os.O_CREAT))
        return options(root, "market1501")

    return make


NAMES = [
    Hostile(repr(name[:20]), market(name), "does not parse|expected a pid")
    for name in (
        f"{'9' * 235}_c1s1_1_1.png",
        f"0001_c{'9' * 235}s1_1_1.png",
        "-0_c1s1_1_1.png",
        "-01_c1s1_1_1.png",
        "\u0662_c1s1_1_1.png",
        "\uff11_c1s1_1_1.png",
        "new\nline.png",
        "\x1b[31mred.png",
        os.fsdecode(b"\xff.png"),
        " .png",
        "0001_c1s1_1_1.png.png",
        "+1_c1s1_1_1.png",
    )
]


KINDS = {
    "directories": DIRECTORIES,
    "lists": LISTS,
    "manifests": MANIFESTS,
    "contents.json": CONTENTS,
    "HDF5": HDF5,
    "MATLAB 5": MAT5,
    "names": NAMES,
}
