"""Hostile and broken checkpoints, made afresh from a seed: `python -m tests.hostile.checkpoints DIRECTORY SEED` makes
them, loads each as TEST.WEIGHT and as MODEL.PRETRAIN_PATH, and prints one JSON line a file."""

import argparse
import io
import json
import os
import pickle
import random
import resource
import struct
import sys
import tarfile
import time
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import torch
from safetensors.torch import save_file

from config import load_cfg
from model import load_model, make_model
from model.weights.pretrained import load_pretrained
from utils.errors import UserError

SMALL = [
    *("MODEL.TRANSFORMER_TYPE", "test_vit", "INPUT.SIZE_TRAIN", "[32, 32]", "INPUT.SIZE_TEST", "[32, 32]"),
    *("MODEL.PRETRAIN_PATH", "", "CFAT.STAGE", "clean"),
]
WIDTH = 64  # of that backbone, the smallest
COUNTS = {"num_cameras": 3, "num_views": 1}
# Instructions for a tuple of a tuple twice, which is a tuple of a tuple twice, 60 deep.
TWICE_AND_TWICE = b"Nq\0" + b"".join(b"h%c\x86q%c" % (level, level + 1) for level in range(60))
Made = Iterator[tuple[str, bytes]]


def saved(content, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def members_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def with_pickle(code: bytes) -> bytes:
    """A file of torch.save whose pickle is `code`."""
    return zipped({"a/data.pkl": code, "a/byteorder": b"little", "a/version": b"3\n", "a/data/0": bytes(64)})


def foreign(state: dict, rng: random.Random, directory: Path) -> Made:
    """Files of other kinds."""
    whole = saved(state)
    script, array, hdf5 = (directory / name for name in ("script.tmp", "array.npz", "keras.tmp"))
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(script))
    yield "torchscript", script.read_bytes()
    np.savez(array, **{name: value.numpy() for name, value in list(state.items())[:4]})
    yield "npz", array.read_bytes()
    np.savez_compressed(array, a=np.zeros(4))
    yield "npz_compressed", array.read_bytes()
    with h5py.File(hdf5, "w") as file:
        file["layer"] = np.zeros(4)
    yield "hdf5", hdf5.read_bytes()
    for protocol in (0, 2, 3, 4, 5):
        yield f"pickle_{protocol}", pickle.dumps({"state": np.zeros(3), "epoch": rng.randrange(99)}, protocol=protocol)
    yield "pickle_evil", pickle.dumps(os.system, protocol=2)
    yield "lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:%064x\nsize 345\n" % rng.getrandbits(200)
    yield "html", b"<!DOCTYPE html><html><body>Sign in</body></html>"
    yield "html_lower", b"\n\n  <html lang=en>"
    yield "xml", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"
    yield "json", b'{"message": "API rate limit exceeded"}'
    yield "text", b"Rate limit exceeded\n"
    yield "yaml", b"MODEL:\n  NAME: transformer\n"
    yield "onnx", b"\x08\x09\x12\x07pytorch\x1a\x05" + bytes(200)
    yield "empty", b""
    yield "zeros", bytes(4096)
    yield "random", rng.randbytes(5000)
    yield "gzip", b"\x1f\x8b\x08\x00" + rng.randbytes(500)
    yield "xz", b"\xfd7zXZ\x00" + rng.randbytes(500)
    yield "png", b"\x89PNG\r\n\x1a\n" + rng.randbytes(500)
    yield "pdf", b"%PDF-1.5\n" + rng.randbytes(500)
    yield "zip_of_checkpoint", zipped({"weights/model.pth": whole})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("pickle", "tensors", "storages"):
            archive.addfile(tarfile.TarInfo(name))
    yield "tar_legacy", buffer.getvalue()


def damaged(state: dict, rng: random.Random, directory: Path) -> Made:
    """Files of torch.save and safetensors that were changed or cut off."""
    whole = saved({"model": state, "meta": {}})
    first = whole.index(b"data/0") + 200
    for number in range(6):
        changed = bytearray(whole)
        changed[rng.randrange(first, len(whole) * 2 // 3)] ^= 1 << rng.randrange(8)
        yield f"bit_{number}", bytes(changed)
    for number in range(4):
        yield f"cut_{number}", whole[: rng.randrange(1, len(whole))]
    changed = bytearray(whole)
    changed[100] ^= 4
    yield "bit_in_pickle", bytes(changed)
    members = members_of(whole)
    bomb = io.BytesIO(zipped(members, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(bomb, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("archive/data/zeros", "w") as stream:
        for _ in range(256):
            stream.write(bytes(2**20))
    yield "deflated_bomb", bomb.getvalue()
    size = whole.rindex(b"PK\x06\x06")
    yield "directory_size", whole[: size + 40] + struct.pack("<Q", 2**40) + whole[size + 48 :]
    entry = whole.rindex(b"PK\x01\x02")
    yield "member_size", whole[: entry + 20] + struct.pack("<II", 2**31, 2**31) + whole[entry + 28 :]
    yield "member_place", whole[: entry + 42] + struct.pack("<I", 0) + whole[entry + 46 :]
    twice = io.BytesIO(whole)
    with zipfile.ZipFile(twice, "a") as archive:
        archive.writestr("archive/data/0 ", bytes(len(members["archive/data/0"])))
    yield (
        "two_of_one_name",
        twice.getvalue()
        .replace(b"archive/data/0 ", b"archive/data/00")
        .replace(b"archive/data/00", b"archive/data/1\0"),
    )
    legacy = saved(state, _use_new_zipfile_serialization=False)
    for number in range(3):
        yield f"legacy_cut_{number}", legacy[: rng.randrange(200, len(legacy) - 8)]
    save_file(state, directory / "a.tmp")
    tensors = (directory / "a.tmp").read_bytes()
    for number in range(3):
        yield f"safetensors_cut_{number}", tensors[: rng.randrange(20, len(tensors))]
    yield "safetensors_header", struct.pack("<Q", 2**40) + tensors[8:]


def bombs(state: dict, rng: random.Random, directory: Path) -> Made:
    """Small files that stand for large objects, long loops or tensors without numbers."""
    yield "bytearray", with_pickle(b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.")
    in_dict = b"\x80\x02}X\x01\x00\x00\x00ac%s\n\x8a\x05\0\0\0\0\x03\x85Rs."
    yield "bytearray_in_dict", with_pickle(in_dict % b"__builtin__\nbytearray")
    encode = b"\x80\x02c_codecs\nencode\nq\0X\x0a\0\0\0" + b"a" * 10 + b"X\x06\0\0\0latin1\x86R"
    yield "encode_chain", with_pickle(encode + b"q\x01h\0h\x01X\x03\0\0\0hex\x86Rq\x01" * 45 + b".")
    yield "storage", with_pickle(in_dict % b"torch.storage\nUntypedStorage")
    yield "memo", with_pickle(b"\x80\x02}r\xff\xff\xff\x7f.")
    yield "hash", with_pickle(b"\x80\x02}" + TWICE_AND_TWICE + b"Ns.")
    yield "set", with_pickle(b"\x80\x02cbuiltins\nset\n]" + TWICE_AND_TWICE + b"a\x85R.")
    yield "long", with_pickle(b"\x80\x02\x8b\xff\xff\xff\x7f.")
    itself: dict = {"model": {}}
    itself["model"]["model"] = itself
    yield "refers_to_itself", saved(itself)
    deep: dict = {"x": torch.zeros(1)}
    for _ in range(200):
        deep = {"model": deep}
    yield "deep", saved(deep)
    yield "deep_pickle", with_pickle(b"\x80\x02" + b"}X\x01\0\0\0a" * 100_000 + b"}" + b"s" * 100_000 + b".")
    laughs: dict = {"x": torch.zeros(1)}
    for _ in range(60):
        laughs = {"a": laughs, "b": laughs}
    yield "laughs", saved(laughs)
    yield "many_names", saved({f"model.{number}": 1 for number in range(100_000)})
    members = members_of(saved({"x": torch.arange(10.0)}))
    code = members["archive/data.pkl"]
    for name, old, new in (
        ("numel", b"K\nt", b"J\xff\xff\xff\x7ft"),
        ("size", b"QK\0K\n\x85", b"QK\0J\xff\xff\xff\x7f\x85"),
        ("offset", b"QK\0K\n\x85", b"QJ\xff\xff\xff\x7fK\n\x85"),
        ("negative_stride", b"K\x01\x85", b"J\xff\xff\xff\xff\x85"),
        ("huge_stride", b"K\x01\x85", b"J\xff\xff\xff\x7f\x85"),
    ):
        assert code.count(old), (name, code)
        yield name, zipped({**members, "archive/data.pkl": code.replace(old, new)})
    for name, value in (
        ("nan", torch.full((WIDTH,), torch.nan)),
        ("infinity", torch.full((WIDTH,), torch.inf)),
        ("view", torch.zeros(1).expand(10**6, 10**6)),
        ("meta", torch.empty(WIDTH, device="meta")),
        ("huge_meta", torch.empty(10**9, 10**9, device="meta")),
        ("sparse", torch.zeros(WIDTH).to_sparse()),
        ("quantised", torch.quantize_per_tensor(torch.zeros(WIDTH), 0.1, 0, torch.qint8)),
        ("complex", torch.zeros(WIDTH, dtype=torch.complex64)),
        ("boolean", torch.zeros(WIDTH, dtype=torch.bool)),
        ("zero_dims", torch.tensor(1.0)),
    ):
        yield f"tensor_{name}", saved({**state, "base.norm.weight": value})
        yield f"pixels_{name}", saved({**state, "normalize.mean": value})
        yield f"positions_{name}", saved({**state, "base.pos_embed": value})
    for name in ("base.cls_token", "base.patch_embed.proj.weight", "base.sie_embed", "base.blocks.0.mlp.fc1.weight"):
        yield f"scalar_{name}", saved({**state, name: torch.tensor(1.0)})
        yield f"nothing_{name}", saved({**state, name: torch.empty(0)})
    far = f"base.blocks.{'9' * 5000}.y"
    for name in ("b1.1.weight", "b1.x", "base.blocks.x.y", far, "base.", "base..cls_token", ""):
        yield f"name_{len(name)}", saved({**state, "b1.1.weight": torch.zeros(WIDTH), name: torch.zeros(1)})
    yield "pixels_three", saved({**state, "normalize.std": torch.tensor([torch.nan, 1, 1])})
    yield "pixels_zero", saved({**state, "normalize.std": torch.zeros(3)})
    yield "odd_names", saved({3: torch.zeros(1), None: 2, ("a", 1): 3})
    yield "odd_blocks", saved({"base.cls_token": torch.zeros(1, 1, WIDTH), "base.blocks": torch.zeros(1), **state})
    yield "terminal", saved({"\x1b[31mevil\n": torch.zeros(1)})


class Settings(argparse.Namespace):
    """A subclass of the one class that may be in a file."""


class Runs:
    """Runs a command where it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch ran",)


def namespaces(state: dict, rng: random.Random, directory: Path) -> Made:
    """What pretends to be an argparse.Namespace, is one where none belongs, or does more with one than hold values."""
    for name, args in (
        ("subclass", Settings(lr=0.1)),
        ("runs", argparse.Namespace(hook=Runs())),
        ("instance", argparse.Namespace(hook=torch.nn.Linear(2, 2))),
    ):
        yield name, saved({"model": state, "args": args})
        yield (
            f"in_itself_{name}",
            saved({"model": state, "args": argparse.Namespace(args=argparse.Namespace(args=args))}),
        )
    yield "whole", saved(argparse.Namespace(**{"model": state}))
    yield "as_a_weight", saved({**state, "base.norm.weight": argparse.Namespace(weight=torch.zeros(WIDTH))})
    yield "as_a_state", saved({"model": argparse.Namespace(**state)})
    made, item = b"cargparse\nNamespace\n)\x81", b"X\x01\0\0\0a"
    start = b"\x80\x02}" + item
    yield "deep", with_pickle(start + (made + b"}" + item) * 50_000 + b"N" + b"sb" * 50_000 + b"s.")
    yield "called", with_pickle(start + b"cargparse\nNamespace\n" + item + b"\x85Rs.")
    yield "new_with_arguments", with_pickle(start + b"cargparse\nNamespace\n" + item + b"\x85\x81s.")
    storage = b"ctorch.storage\nUntypedStorage\n"
    yield "sets_state", with_pickle(start + made + b"}X\x0c\0\0\0__setstate__" + storage + b"sb\x8a\x05\0\0\0\0\x03bs.")
    yield "sets_class", with_pickle(start + made + b"N}X\x09\0\0\0__class__ctorch\nTensor\ns\x86bs.")
    yield "state_is_no_dict", with_pickle(start + made + b"K\x01bs.")
    yield "as_a_key", with_pickle(b"\x80\x02}" + made + b"Ns.")
    other = b"\x80\x02}" + item + b"cargparse\n%s\n)\x81s."
    yield "other_class", with_pickle(other % b"ArgumentParser")
    yield "attribute", with_pickle(other % b"Namespace.__init__")
    yield "module", with_pickle(other % b"_sys")


class Endless(torch.nn.Module):
    """Does not end where torch.jit.load loads it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + self.weight

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, bool]:
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        while state[0].numel() > 0:
            pass


def scripts(state: dict, rng: random.Random, directory: Path) -> Made:
    """TorchScript archives whose program, pickle or storages are hostile or broken."""
    path = directory / "script.tmp"
    torch.jit.script(Endless()).save(str(path))
    yield "endless", path.read_bytes()
    torch.jit.script(torch.nn.Sequential(torch.nn.Linear(2, 2))).save(str(path))
    whole = path.read_bytes()
    members = members_of(whole)
    name, storage = "script/data.pkl", "script/data/0"
    code = members[name]
    yield "cut", whole[: rng.randrange(len(whole) // 2, len(whole) - 1)]
    changed = bytearray(whole)
    changed[whole.index(members[storage])] ^= 1
    yield "bit", bytes(changed)
    yield "deflated", zipped(members, zipfile.ZIP_DEFLATED)
    packed = io.BytesIO(zipped({key: value for key, value in members.items() if key != storage}))
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("script/code/zeros", "w") as stream:  # never unpacked
            for _ in range(256):
                stream.write(bytes(2**20))
        archive.writestr("script/data/../code/x", bytes(2**20))
    yield "code_bomb", packed.getvalue()
    for number, found in enumerate((b"__torch__", b"torch._utils", b"torch", b"torch.jit._pickle")):
        yield f"global_{number}", zipped({**members, name: code.replace(b"c" + found, b"cos.path")})
    for label, pickled in (
        ("system", b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R."),
        ("number", b"\x80\x02K\x01."),
        ("nothing", b"\x80\x02."),
        ("empty", b""),
        ("no_mark", b"\x80\x02t."),
        ("memo", b"\x80\x02h\x05."),
        ("odd_instruction", b"\x80\x02cos\nsystem\n(i__torch__\nA\n."),
        ("deep", b"\x80\x02" + b"c__torch__\nA\n)\x81}X\x01\0\0\0a" * 50_000 + b"N" + b"sb" * 50_000 + b"."),
        ("itself", b"\x80\x02c__torch__\nA\n)\x81q\0}X\x01\0\0\0ah\0sb."),
        (
            "laughs",
            b"\x80\x02c__torch__\nA\n)\x81q\0"
            + b"".join(
                b"c__torch__\nA\n)\x81}(X\x01\0\0\0ah%cX\x01\0\0\0bh%cubq%c" % (level, level, level + 1)
                for level in range(60)
            )
            + b".",
        ),
        ("hash", b"\x80\x02}" + TWICE_AND_TWICE + b"Ns."),
        ("place", code.replace(b"X\x01\0\0\x000", b"X\x09\0\0\x00../code/x")),
        ("missing", code.replace(b"X\x01\0\0\x000", b"X\x01\0\0\x007")),
        ("size", code.replace(b"(K\x02K\x02t", b"(K\x09K\x09t")),
        ("negative", code.replace(b"(K\x02K\x02t", b"(J\xff\xff\xff\xffK\x02t")),
        ("text", code.replace(b"(K\x02K\x02t", b"(NNt")),
    ):
        assert pickled != code, label
        yield f"pickle_{label}", zipped({**members, name: pickled})
    yield "short_storage", zipped({**members, storage: members[storage][:3]})
    yield "big_endian", zipped({**members, "script/byteorder": b"big"})


def configurations(state: dict, rng: random.Random, directory: Path) -> Made:
    """Stored configurations of wrong types, shapes and values."""
    good = load_cfg(opts=SMALL).dump()
    for name, line in (
        ("stride_zero", "STRIDE_SIZE: [0, 0]"),
        ("stride_text", "STRIDE_SIZE: ab"),
        ("stride_huge", f"STRIDE_SIZE: [{10**400}, 1]"),
        ("type_list", "TRANSFORMER_TYPE: [a]"),
        ("type_unknown", "TRANSFORMER_TYPE: nothing"),
        ("jpm_text", "JPM: 'yes'"),
        ("jpm_parts", "DEVIDE_LENGTH: -4"),
        ("coefficient", "SIE_COE: .nan"),
        ("shift", "SHIFT_NUM: 1.5"),
        ("pool", "STEM_POOL: 7"),
        ("name", "NAME: {a: b}"),
    ):
        yield name, saved({"model": state, "meta": {"config": f"MODEL: {{{line}}}", "stage": "clean"}})
    sizes = {"number": "5", "three": "[1, 2, 3]", "map": "{a: 1}", "big": "[1.0e+400, 3]"}
    for name, line in sizes.items():
        text = f"MODEL: {{}}\nINPUT: {{SIZE_TEST: {line}}}"
        yield f"size_{name}", saved({"model": state, "meta": {"config": text, "stage": "clean"}})
    for name, text in {"deep": "[" * 1500, "long": "#" * 2**21}.items():
        yield name, saved({"model": state, "meta": {"config": text, "stage": "clean"}})
    yield "seed_text", saved({"model": state, "meta": {"config": good.replace("SEED: 1234", "SEED: [a]")}})


def harmless(state: dict, rng: random.Random, directory: Path) -> Made:
    """Odd files whose model is whole: they load."""
    for name, meta in (
        ("number", 3),
        ("list", [1]),
        ("config_number", {"config": 5}),
        ("config_none", {"config": None}),
        ("config_broken", {"config": "a: [1"}),
        ("config_text", {"config": "text"}),
        ("config_list", {"config": "[1]"}),
        ("config_keys", {"config": "? [1, 2]\n: 3"}),
        ("config_date", {"config": "MODEL: 2001-99-99"}),
        ("config_model_list", {"config": "MODEL: [1]"}),
    ):
        yield f"meta_{name}", saved({"model": state, "meta": meta})
    yield "legacy", saved(state, _use_new_zipfile_serialization=False)
    torch.serialization.set_crc32_options(False)
    yield "no_check_sums", saved(state)
    torch.serialization.set_crc32_options(True)
    yield "counter_in_half", saved({name: value.half() for name, value in state.items()})
    yield "same_twice", saved({"model": state, "state_dict": state})
    yield "double", saved({name: value.double() for name, value in state.items()})
    yield "ordered", saved(OrderedDict(state))
    deep = argparse.Namespace(lr=0.1)
    for _ in range(150):
        deep = argparse.Namespace(args=deep)
    for name, args in (
        ("plain", argparse.Namespace(lr=0.1, crops=(0.4, 1.0), names=["a"], path=None)),
        ("tensor", argparse.Namespace(weight=torch.zeros(3))),
        ("deep", deep),
        ("in_a_list", [deep, deep]),
        ("odd_names", argparse.Namespace(**{"__reduce__": 1, "__len__": 2, "": 3})),
    ):
        yield f"args_{name}", saved({"model": state, "args": args})


KINDS = {make.__name__: make for make in (foreign, damaged, bombs, namespaces, scripts, configurations, harmless)}


def make_files(directory: Path, seed: int) -> Iterator[tuple[str, Path]]:
    """Kind and path of every file, made when its turn comes."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    state = make_model(load_cfg(opts=SMALL), num_classes=2, **COUNTS).state_dict()
    for kind, make in KINDS.items():
        for name, content in make(state, rng, directory):
            path = directory / f"{kind}-{name}.pth"
            path.write_bytes(content)
            yield kind, path
            path.unlink()


def load(path: Path) -> str:
    """What became of a file: the error's text, or "" where it was loaded."""
    cfg = load_cfg(opts=SMALL)
    try:
        model = load_model(cfg, str(path), **COUNTS)
        load_pretrained(model.base, str(path))
    except UserError as error:
        return str(error)
    return ""


def main() -> int:
    directory, seed = Path(sys.argv[1]), int(sys.argv[2])
    load(directory)  # what is imported on first use counts for no file
    for kind, path in make_files(directory, seed):
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        try:
            text = load(path)
        except Exception as error:  # what the test looks for
            text = f"TRACEBACK {type(error).__name__}: {error}"
        seconds = time.process_time() - start
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(json.dumps({"kind": kind, "name": path.stem, "seconds": seconds, "mib": grown, "text": text}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
