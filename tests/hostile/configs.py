"""Hostile and broken configurations, generated from a seed: at least eight of every kind."""

import os
import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KEYS = (
    "SEED",
    "SOLVER.BASE_LR",
    "SOLVER.MAX_EPOCHS",
    "INPUT.SIZE_TRAIN",
    "SOLVER.STEPS",
    "MODEL.JPM",
    "TEST.PROTOCOLS",
)


@dataclass(frozen=True)
class Hostile:
    """One input: `write` puts its files into an empty directory and returns the arguments of load_cfg."""

    kind: str
    name: str
    write: Callable[[Path], tuple[str | None, list[str]]]


def hostile_configs(seed: int) -> list[Hostile]:
    rng = random.Random(seed)
    makers = (_aliases, _bases, _many, _deep, _numbers, _special_files, _syntax, _types, _tags, _paths)
    return [hostile for maker in makers for hostile in maker(rng)]


def alias_bombs(rng: random.Random) -> dict[str, str]:
    """YAML texts whose aliases multiply or form a circle."""
    name, width = _word(rng), rng.randint(8, 12)
    lists = [f"{name}0: &{name}0 [{', '.join(['lol'] * width)}]"]
    dicts = [f"{name}0: &{name}0 {{a: lol}}"]
    chain = [f"{name}0: &{name}0 {{a: 1}}"]
    merges = [f"{name}0: &{name}0 {{a: 1}}"]
    for level in range(1, 10):
        above = f"*{name}{level - 1}"
        lists.append(f"{name}{level}: &{name}{level} [{', '.join([above] * width)}]")
        members = ", ".join(f"k{index}: {above}" for index in range(width))
        dicts.append(f"{name}{level}: &{name}{level} {{{members}}}")
    for level in range(1, 2000):
        chain.append(f"{name}{level}: &{name}{level} {{a: *{name}{level - 1}}}")
        merges.append(f"{name}{level}: &{name}{level} {{<<: *{name}{level - 1}, b{level}: 1}}")
    return {
        "lists": "\n".join(lists),
        "sections": "\n".join(dicts),
        "chain": "\n".join(chain),
        "merges": "\n".join(merges),
        "in-itself": f"MODEL: &{name} {{JPM: *{name}}}",
        "list-in-itself": f"SOLVER: {{STEPS: &{name} [1, *{name}]}}",
        "merged-into-itself": f"MODEL: &{name} {{<<: *{name}}}",
        "undefined": f"SEED: *{name}",
        "long-text": f"{name}: &{name} {'x' * 50_000}\nSEED: [{', '.join([f'*{name}'] * 2000)}]",
        "one-value": f"SEED: &{name} [{', '.join(['1'] * 100)}]\nSOLVER: {{STEPS: [{', '.join([f'*{name}'] * 100)}]}}",
    }


def _word(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_letters, k=8))


def _file(kind: str, name: str, text: str | bytes) -> Hostile:
    def write(directory: Path) -> tuple[str, list[str]]:
        path = directory / "a.yml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        return str(path), []

    return Hostile(kind, name, write)


def _options(kind: str, name: str, *opts: str) -> Hostile:
    return Hostile(kind, name, lambda directory: (None, list(opts)))


def _aliases(rng: random.Random) -> list[Hostile]:
    bombs = alias_bombs(rng)
    one_line = "[&a [1, 1, 1, 1], " + ", ".join(
        f"&{y} [{', '.join([f'*{x}'] * 9)}]" for x, y in zip("abcd", "bcde", strict=True)
    )
    return [
        *(_file("aliases", name, text) for name, text in bombs.items()),
        _options("aliases", "command-line", "SOLVER.STEPS", f"{one_line}]"),
        _options("aliases", "command-line-circle", "SOLVER.STEPS", "&a [*a]"),
    ]


def _bases(rng: random.Random) -> list[Hostile]:
    def tree(directory: Path, levels: int, bases: Callable[[int], list[str]]) -> tuple[str, list[str]]:
        for level in range(levels):
            names = ", ".join(f'"{base}"' for base in bases(level + 1))
            (directory / f"{level}.yml").write_text(f"_BASE_: [{names}]\n")
        (directory / f"{levels}.yml").write_text("SEED: 1\n")
        return str(directory / "0.yml"), []

    twice, often = rng.randint(2, 3), rng.randint(1000, 2000)
    return [
        Hostile("bases", "tree", lambda directory: tree(directory, 30, lambda level: [f"{level}.yml"] * twice)),
        Hostile("bases", "wide", lambda directory: tree(directory, 2, lambda level: [f"{level}.yml"] * often)),
        Hostile("bases", "long", lambda directory: tree(directory, 500, lambda level: [f"{level}.yml"])),
        Hostile("bases", "circle", lambda directory: tree(directory, 5, lambda level: [f"{level % 5}.yml"])),
        Hostile("bases", "circles", lambda directory: tree(directory, 5, lambda level: ["0.yml", f"{level}.yml"] * 9)),
        _file("bases", "itself", "_BASE_: a.yml\n"),
        _file("bases", "directory", "_BASE_: .\n"),
        _file("bases", "device", "_BASE_: /dev/zero\n"),
        _file("bases", "nul", '_BASE_: "a\\0b"\n'),
        _file("bases", "list-of-lists", "_BASE_: [[a.yml]]\n"),
        _file("bases", "section", "_BASE_: {a: b}\n"),
        _file("bases", "gone", f"_BASE_: {_word(rng)}.yml\n"),
        _file("bases", "kernel", "_BASE_: /proc/self/environ\n"),
    ]


def _many(rng: random.Random) -> list[Hostile]:
    word, count = _word(rng), rng.randint(18_000, 22_000)
    few = rng.randint(3_000, 4_000)
    return [
        _file("many", "keys", "".join(f"{word}{index}: 1\n" for index in range(count))),
        _file("many", "keys-alike", "SOLVER:\n" + "".join(f"  BASE_L{index}: 1\n" for index in range(few))),
        _file("many", "keys-in-one-line", "{" + ", ".join(f"K{index}: 1" for index in range(count)) + "}"),
        _file("many", "wrong-values", "SOLVER:\n  STEPS: [" + ", ".join(["x"] * few) + "]\n"),
        _file("many", "same-key", "SEED: 1\n" * count),
        _file("many", "bytes", "# " + "x" * 2**22),
        _file("many", "characters", "SEED: " + "x" * 250_000),
        _file("many", "long-key", "x" * 200_000 + ": 1"),
        _file("many", "documents", "---\nSEED: 1\n" * few),
        _options("many", "pairs", *(part for index in range(count) for part in (f"SOLVER.{word}{index}", "1"))),
        _options("many", "long-value", "SOLVER.STEPS", "[" + "1, " * 100_000 + "1]"),
        _options("many", "equals", *(f"SOLVER.BASE_LR{index}=1" for index in range(few))),
    ]


def _deep(rng: random.Random) -> list[Hostile]:
    depth = rng.randint(50_000, 90_000)
    return [
        _file("deep", "lists", "SEED: " + "[" * depth),
        _file("deep", "closed-lists", "SEED: " + "[" * depth + "]" * depth),
        _file("deep", "sections", "{a: " * (depth // 4)),
        _file("deep", "lines", "".join("  " * level + "a:\n" for level in range(400))),
        _file("deep", "dashes", "- " * 100_000),
        _file("deep", "question-marks", "? " * 100_000),
        _file("deep", "seventeen", "SOLVER: {STEPS: " + "[" * 17 + "1" + "]" * 17 + "}"),
        _options("deep", "lists", "SOLVER.STEPS", "[" * depth + "]" * depth),
        _options("deep", "tuples", "SOLVER.STEPS", "(" * depth + ")" * depth),
        _options("deep", "texts", "SEED", "(" * depth + "'a'" + ")" * depth),
        _options("deep", "pattern", "DATASETS.FOLDER.PATTERN", "(?P<pid>" + "(" * 5000 + ")" * 5001),
    ]


def _numbers(rng: random.Random) -> list[Hostile]:
    digits = "".join(rng.choices("123456789", k=400))
    texts = (digits, f"-{digits}", digits * 20, f"0x{digits}", f"{digits}.5e{digits}", "1e400", f"[{digits}]", "1e-400")
    keys = ("SEED", "SOLVER.BASE_LR", "SOLVER.STEPS")
    return [
        *(_file("numbers", f"{key}-{index}", f"{key}: {text}\n") for key in keys for index, text in enumerate(texts)),
        *(_options("numbers", f"{key}-{index}", key, text) for key in keys for index, text in enumerate(texts)),
    ]


def _special_files(rng: random.Random) -> list[Hostile]:
    def fifo(directory: Path) -> tuple[str, list[str]]:
        os.mkfifo(directory / "a.yml")
        return str(directory / "a.yml"), []

    def link(target: str) -> Callable[[Path], tuple[str, list[str]]]:
        def write(directory: Path) -> tuple[str, list[str]]:
            (directory / "a.yml").symlink_to(target)
            return str(directory / "a.yml"), []

        return write

    def large(directory: Path) -> tuple[str, list[str]]:
        with (directory / "a.yml").open("wb") as handle:
            handle.truncate(rng.randint(100, 200) * 2**20)  # takes no space on disk
        return str(directory / "a.yml"), []

    return [
        Hostile("special files", "fifo", fifo),
        Hostile("special files", "large", large),
        Hostile("special files", "directory", lambda directory: (str(directory), [])),
        Hostile("special files", "link-to-itself", link("a.yml")),
        Hostile("special files", "link-to-device", link("/dev/zero")),
        Hostile("special files", "link-to-kernel", link("/proc/self/status")),
        Hostile("special files", "dangling-link", link(_word(rng))),
        Hostile("special files", "device", lambda directory: ("/dev/zero", [])),
        Hostile("special files", "nul", lambda directory: (f"{directory}/a\0.yml", [])),
        Hostile("special files", "long-name", lambda directory: ("a" * 5000, [])),
        Hostile("special files", "below-a-file", lambda directory: ("/etc/passwd/a.yml", [])),
    ]


def _syntax(rng: random.Random) -> list[Hostile]:
    texts = {
        "nul": "SEED: 1\0\n",
        "control": "SEED: \x1b[31m1\n",
        "tab": "SOLVER:\n\tBASE_LR: 1\n",
        "open-list": "SEED: [1, 2\n",
        "open-quote": "OUTPUT_DIR: 'a\n",
        "bad-escape": 'OUTPUT_DIR: "\\q"\n',
        "two-documents": "SEED: 1\n---\nSEED: 2\n",
        "twice": "SEED: 1\r\nMODEL: {JPM: True}\r\nSEED: 1\r\n",
        "twice-in-a-section": "SOLVER:\n  MARGIN: 1\n  MAX_EPOCHS: 1\n  MARGIN: 2\n",
        "twice-dotted": "SOLVER: {MARGIN: 1}\nSOLVER.MARGIN: 2\n",
        "list-as-key": "[a, b]: 1\n",
        "scalar": "hello\n",
        "directive": "%YAML 3.0\n---\nSEED: 1\n",
        "surrogate": "OUTPUT_DIR: \ud800\n",
        "utf-16": "SEED: 1\n".encode("utf-16"),
        "latin-1": "OUTPUT_DIR: caf\xe9\n".encode("latin-1"),
        "random-bytes": rng.randbytes(5000),
        "random-text": "".join(rng.choices(string.punctuation + "\n ", k=5000)),
    }
    return [_file("syntax", name, text) for name, text in texts.items()]


def _types(rng: random.Random) -> list[Hostile]:
    values = ("{a: 1}", "[{}]", "[[1], [2]]", "null", "[null]", "{}", "'" + _word(rng) + "'", "[a, [b]]", '"\\0"')
    return [
        _file("types", f"{key}-{index}", f"{key}: {value}\n") for key in KEYS for index, value in enumerate(values)
    ] + [
        _file("types", f"section-{index}", f"MODEL: {value}\n")
        for index, value in enumerate(values)
        if value not in ("{}", "null")
    ]


def _tags(rng: random.Random) -> list[Hostile]:
    word = _word(rng)
    values = (
        f'!!python/object/apply:os.system ["touch {word}"]',
        "!!python/name:os.system ''",
        f"!!python/module:{word} ''",
        f"!!python/object/new:os.system ['touch {word}']",
        "!!binary aGVsbG8=",
        "!!set {a, b}",
        "!!omap [a: 1]",
        "!!timestamp 2024-01-01",
        f"!{word} 1",
        f"!!python/tuple [{word}]",
    )
    return [
        _file("tags", f"{key}-{index}", f"{key}: {value}\n")
        for key in ("SEED", "OUTPUT_DIR")
        for index, value in enumerate(values)
    ]


def _paths(rng: random.Random) -> list[Hostile]:
    word = _word(rng)
    values = (
        f"${word}",
        f"${{{word}}}/a",
        f"a/${word}/b",
        f"~{word}/a",
        f"${{{word}:-/tmp}}",
        "${}",
        "a\0b",
        f"~/${word}",
    )
    return [
        _options("paths", f"{key}-{index}", key, value)
        for key in ("OUTPUT_DIR", "TEST.COMPARE", "CFAT.CLEAN.WEIGHT")
        for index, value in enumerate(values)
    ] + [_file("paths", "base", f"_BASE_: ${word}/a.yml\n")]
