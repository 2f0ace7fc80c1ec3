"""results.json files from an untrusted source: generated from a seed, each a good one with one wrong value."""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np


def good_results() -> dict:
    metrics = {name: {"mean": 0.5, "std": 0.0} for name in ("mAP", "mINP", "rank1", "rank5", "rank10")}
    return {
        "dataset": "synthetic",
        "dataset_version": "",
        "weight": "a.pth",
        "seed": 1,
        "evaluation": {"metric": "euclidean", "ap": "step", "cmc": "standard", "re_ranking": {"k1": 20, "lambda": 0.3}},
        "protocols": {"clean": {**metrics, "repeats": 1}},
    }


def _changed(keys: list[str], value: object) -> str:
    content = copy.deepcopy(good_results())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return json.dumps(content)


MEAN = ["protocols", "clean", "mAP", "mean"]


def hostile_contents(seed: int) -> dict[str, bytes]:
    """Kind -> content of a results.json that must be refused."""
    rng = np.random.default_rng(seed)
    deep = int(rng.integers(20_000, 60_000))
    wrong = [None, "0.5", [0.5], {"mean": 0.5}, True]
    texts = {
        **{f"mean {value!r}": _changed(MEAN, value) for value in wrong},
        "a percentage": _changed(MEAN, float(rng.uniform(2, 100))),
        "below 0": _changed(MEAN, -float(rng.uniform(0.1, 1))),
        **{name: _changed(MEAN, 0.25).replace("0.25", name) for name in ("NaN", "Infinity", "-Infinity", "1e400")},
        "400 digits": _changed(MEAN, 0.25).replace("0.25", "9" * 400),
        "5000 digits": _changed(["protocols", "clean", "repeats"], 77).replace("77", "7" * 5000),
        **{f"protocols {value!r}": _changed(["protocols"], value) for value in (None, [], "clean", {"clean": []})},
        **{f"weight {value!r}": _changed(["weight"], value) for value in (None, 1, ["a.pth"], {})},
        "no deviation": _changed(["protocols", "clean", "mAP"], {"mean": 0.5}),
        "half a repeat": _changed(["protocols", "clean", "repeats"], 0.5),
        "no repeat": _changed(["protocols", "clean", "repeats"], 0),
        "evaluation a list": _changed(["evaluation"], [1]),
        "evaluation too long": _changed(["evaluation"], {"metric": "x" * 10**5}),
        "name too long": _changed(["protocols"], {"x" * 10**5: {}}),
        "deep lists": "[" * deep + "]" * deep,
        "deep in a value": _changed(["evaluation"], 77).replace("77", '{"a":' * deep + "1" + "}" * deep),
        "a number": "1",
        "a text": '"protocols"',
        "nothing": "",
        "half": json.dumps(good_results())[: int(rng.integers(5, 90))],
    }
    return {kind: text.encode() for kind, text in texts.items()} | {
        "no UTF-8": json.dumps(good_results()).encode("utf-16"),
        "any bytes": rng.bytes(1000),
        "zeros": bytes(1000),
    }


def _sparse(path: Path) -> None:
    with path.open("wb") as handle:
        handle.truncate(100 * 2**20)


# What else a path may be: kind -> function that creates it.
NO_FILES: dict[str, Callable[[Path], None]] = {
    "nothing": lambda path: None,
    "FIFO": os.mkfifo,
    "directory": Path.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "link to /proc": lambda path: path.symlink_to("/proc/self/environ"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "100 MB": _sparse,
}
