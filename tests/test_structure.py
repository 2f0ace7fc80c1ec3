"""Layers: who imports whom; what the top level holds; that every configuration key is read."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import get_defaults
from tests.config.test_load import flat

ROOT = Path(__file__).resolve().parents[1]

# Package -> the project's packages that it may import beside itself. Packages of one layer never import each other.
LAYERS = {
    "utils": set(),
    "config": {"utils"},
    "corruption": {"utils"},
    "model": {"utils"},
    "loss": {"utils"},
    "solver": {"utils"},
    "datasets": {"corruption", "utils"},
    "processor": {"utils"},
}
MAINS = ("train.py", "test.py")  # with every __main__.py, the files that may import all packages
# What wires like a command line, but is called from Python: file -> packages that it may import beside its own layer.
WIRING = {"model/extractor.py": {"config"}}
# Third-party module -> files (or folders, ending in /) that may import it; tests may import everything.
HOMES = {
    "timm": ("model/",),
    **dict.fromkeys(("timm.optim", "timm.scheduler"), ("model/", "solver/")),
    "torchvision.models": ("model/",),
    "imagecorruptions": ("corruption/",),
    "cv2": ("corruption/", "datasets/"),
    "scipy.ndimage": ("corruption/", "datasets/"),
    "matplotlib": ("processor/plots.py", "processor/report/plots.py", "__main__.py"),
    "jinja2": ("processor/report/",),
    "h5py": ("datasets/readers/cuhk03_hdf5.py",),
    "filelock": ("utils/locks.py",),
    "faiss": ("utils/metrics/approximate.py",),
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime"), ("model/export.py",)),
}
TOP_LEVEL = {
    *LAYERS,
    *MAINS,
    *("configs", "tests", "docs", "requirements.txt", "setup.py", "pyproject.toml", "Makefile", "README.md"),
    *("LICENSE", "CITATION.cff", "CONTRIBUTING.md", "CHANGELOG.md", ".gitignore", ".ci", ".github"),
}


def sources(root: Path) -> Iterator[Path]:
    """Python files of the project, relative to root; tests left out."""
    for folder in LAYERS:
        yield from (path.relative_to(root) for path in sorted((root / folder).rglob("*.py")))
    yield from (path.relative_to(root) for path in sorted(root.glob("*.py")))


def imported_names(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """Every imported dotted name with its line, those inside functions too; relative ones are resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            start = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((f"{start}.{alias.name}", node.lineno) for alias in node.names)


def is_main(path: Path) -> bool:
    return path.name == "__main__.py" or path.as_posix() in MAINS


def lies_in(path: Path, homes: tuple[str, ...]) -> bool:
    name = path.as_posix()
    return any(name.startswith(home) if home.endswith("/") else home in (name, path.name) for home in homes)


def import_errors(root: Path) -> list[str]:
    errors = []
    for path in sources(root):
        name, folder = path.as_posix(), path.parts[0]
        allowed = set(LAYERS) if is_main(path) else LAYERS.get(folder, set()) | {folder} | WIRING.get(name, set())
        tree = ast.parse((root / path).read_text(encoding="utf-8"), filename=name)
        for imported, line in imported_names(tree, path.parent.parts):
            first = imported.split(".")[0]
            if first in {*LAYERS, "tests", "train", "test"} - allowed:
                errors.append(f"{name}:{line} imports {first}")
            # The longest module decides: timm.scheduler before timm.
            homes = [home for home in HOMES if f"{imported}.".startswith(f"{home}.")]
            if homes and not lies_in(path, HOMES[max(homes, key=len)]):
                errors.append(f"{name}:{line} imports {imported}, which belongs in {HOMES[max(homes, key=len)]}")
    return errors


def chain_of(node: ast.AST) -> list[str]:
    """Names of `a.b.c` as [a, b, c], [] for other code; `["b"]` and `getattr` count, a computed name stands as *."""
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "getattr"
        and len(node.args) > 1
    ):
        node = ast.Subscript(value=node.args[0], slice=node.args[1], ctx=ast.Load())
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        start = chain_of(node.value)
        return [*start, node.attr] if start else []
    if isinstance(node, ast.Subscript):
        start = chain_of(node.value)
        constant = isinstance(node.slice, ast.Constant)
        return [*start, str(node.slice.value) if constant else "*"] if start else []
    return []


def config_path(chain: list[str], aliases: dict[str, list[str]], sections: dict[str, list[str]]) -> list[str]:
    """The part of a chain that lies within the configuration: [SOLVER, BASE_LR] of `self.cfg.SOLVER.BASE_LR`.

    It starts after the last name `cfg` (or `..._cfg`), at an alias, or at an argument named as its section in lower
    case, as in `def make_sgd(solver): solver.BASE_LR`.
    """
    for position in range(len(chain) - 1, -1, -1):
        if chain[position] == "cfg" or chain[position].endswith("_cfg"):
            return chain[position + 1 :]
    if chain and chain[0] in aliases:
        return aliases[chain[0]] + chain[1:]
    if chain and chain[0].islower() and chain[0].upper() in sections:
        return sections[chain[0].upper()] + chain[1:]
    return []


def keys_read(tree: ast.AST, keys: set[str]) -> set[str]:
    """Keys that the code reads as attributes of cfg; assigning to one is not reading it.

    A computed name, as in `for key in ("AUGMIX", "SELF_ID"): cfg.INPUT[key]`, may be any text of the file, or the
    section of any of CFAT's stages.
    """
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    texts |= {"CLEAN", "CORRUPTED", "BRIDGE", "ALIGN"}
    sections = {key.split(".")[-2]: key.split(".")[:-1] for key in sorted(keys) if "." in key}
    aliases = find_aliases(tree, sections)
    read = set()
    for node in ast.walk(tree):
        if isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            path = config_path(chain_of(node), aliases, sections)
            computed = texts if "*" in path else {""}
            read |= {".".join(text if name == "*" else name for name in path) for text in computed}
    return read & keys


def find_aliases(tree: ast.AST, sections: dict[str, list[str]]) -> dict[str, list[str]]:
    """Aliases of parts of the configuration: {solver: [SOLVER]} after `solver = cfg.SOLVER`."""
    aliases: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
        elif isinstance(node, ast.NamedExpr | ast.AnnAssign) and node.value is not None:
            target, value = node.target, node.value
        else:
            continue
        pairs = [(target, value)]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts, strict=False))
        for name, alias in pairs:
            path = config_path(chain_of(alias), aliases, sections)
            if isinstance(name, ast.Name) and path:
                aliases[name.id] = path
    return aliases


def unread_keys(root: Path, keys: set[str]) -> set[str]:
    read: set[str] = set()
    for path in sources(root):
        if path.as_posix() != "config/defaults.py":
            read |= keys_read(ast.parse((root / path).read_text(encoding="utf-8")), keys)
    return keys - read


def plant(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")


def test_imports_point_down_and_third_party_modules_stay_at_home():
    assert import_errors(ROOT) == []


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("loss/a.py", "import model.cfat\n", "loss/a.py:1 imports model"),
        ("model/a.py", "from loss import x\n", "model/a.py:1 imports loss"),
        ("model/a/b.py", "from ...loss import x\n", "model/a/b.py:1 imports loss"),
        ("utils/a.py", "def f():\n    from datasets import x\n", "utils/a.py:2 imports datasets"),
        ("processor/a.py", "import config.load\n", "processor/a.py:1 imports config"),
        ("config/a.py", "from corruption import names\n", "config/a.py:1 imports corruption"),
        ("datasets/a.py", "import tests.config\n", "datasets/a.py:1 imports tests"),
        ("setup.py", "import utils\n", "setup.py:1 imports utils"),
        ("loss/a.py", "def f():\n    import cv2\n", "loss/a.py:2 imports cv2, which belongs in"),
        ("utils/a.py", "from scipy import ndimage\n", "utils/a.py:1 imports scipy.ndimage, which"),
        ("solver/a.py", "from timm.layers import x\n", "solver/a.py:1 imports timm.layers.x, which"),
        ("loss/a.py", "from timm.optim import x\n", "loss/a.py:1 imports timm.optim.x, which"),
        ("datasets/a.py", "from torchvision import models\n", "datasets/a.py:1 imports torchvision.models, which"),
        ("utils/a.py", "import matplotlib.pyplot as plt\n", "utils/a.py:1 imports matplotlib.pyplot, which"),
        ("datasets/a.py", "import h5py\n", "datasets/a.py:1 imports h5py, which"),
        ("processor/a.py", "import jinja2\n", "processor/a.py:1 imports jinja2, which"),
        ("processor/report/a.py", "import matplotlib\n", "processor/report/a.py:1 imports matplotlib, which"),
        ("utils/a/b.py", "import matplotlib\n", "utils/a/b.py:1 imports matplotlib, which"),
    ],
)
def test_a_planted_import_is_found(name, text, error, tmp_path):
    plant(tmp_path, name, text)
    (found,) = import_errors(tmp_path)
    assert found.startswith(error)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train.py", "import config, datasets, model, loss, solver, processor, utils\n"),
        ("datasets/__main__.py", "from config import load_cfg\nimport corruption\nimport matplotlib\n"),
        ("datasets/a.py", "from . import b\nfrom .b import c\nimport cv2\n"),
        ("model/a/b.py", "from ..c import d\nimport timm\nfrom torchvision.models import resnet50\n"),
        ("solver/a.py", "from timm.scheduler import CosineLRScheduler\nfrom timm.optim import Lamb\n"),
        ("corruption/__main__.py", "import datasets, processor.plots\n"),
        ("processor/report/a.py", "import jinja2\n"),
        ("processor/report/plots.py", "import matplotlib.figure\n"),
        ("utils/metrics/a.py", "from utils.errors import b\n"),
        ("processor/plots.py", "import matplotlib.pyplot\nfrom scipy import stats\n"),
        ("loss/a.py", "from torchvision import transforms\nimport modelling\n"),
    ],
)
def test_imports_that_are_allowed(name, text, tmp_path):
    plant(tmp_path, name, text)
    assert import_errors(tmp_path) == []


def test_the_top_level_holds_only_what_the_design_lists():
    try:
        listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: which files belong to the project is unknown")
    assert {line.split("/")[0] for line in listing.splitlines()} - TOP_LEVEL == set()


def test_every_configuration_key_is_read():
    assert unread_keys(ROOT, set(flat(get_defaults()))) == set()


def test_a_planted_key_that_nothing_reads_is_found():
    keys = set(flat(get_defaults()))
    planted = {"SOLVER.PLANTED", "CFAT.FINE.PLANTED", "CFAT.COARSE.PLANTED", "PLANTED"}
    assert planted <= unread_keys(ROOT, keys | planted)


@pytest.mark.parametrize(
    ("code", "read"),
    [
        ("cfg.SOLVER.BASE_LR", {"SOLVER.BASE_LR"}),
        ("self.cfg.CFAT.FINE.NOISE", {"CFAT.FINE.NOISE"}),
        ("staged_cfg.SEED", {"SEED"}),
        ("solver = cfg.SOLVER\nf(solver.BASE_LR, x=solver.GAMMA)", {"SOLVER.BASE_LR", "SOLVER.GAMMA"}),
        ("cfat = cfg.CFAT\nfine = cfat.FINE\nfine.NOISE", {"CFAT.FINE.NOISE"}),
        ("a, b = cfg.TEST, cfg.SOLVER\nb.GAMMA", {"SOLVER.GAMMA"}),
        ("def make(fine):\n    return fine.NOISE", {"CFAT.FINE.NOISE"}),
        ("cfg['SOLVER']['GAMMA']", {"SOLVER.GAMMA"}),
        (
            "cfg.CFAT[stage.upper()].WEIGHT",
            {f"CFAT.{name}.WEIGHT" for name in ("CLEAN", "CORRUPTED", "BRIDGE", "ALIGN")},
        ),
        ("getattr(cfg.SOLVER, 'GAMMA')", {"SOLVER.GAMMA"}),
        ("for key in ('AUGMIX', 'SELF_ID'):\n    f(cfg.INPUT[key])", {"INPUT.AUGMIX", "INPUT.SELF_ID"}),
        ("f(cfg.INPUT[key])", set()),
        ("cfg.SOLVER.BASE_LR = 1", set()),
        ("cfg.SOLVER.BASE_LRR", set()),
        ("cfg.TEST.WEIGHT", {"TEST.WEIGHT"}),
        ("other.BASE_LR\nself.GAMMA\nSEED", set()),
        ("'SOLVER.BASE_LR'  # cfg.SOLVER.BASE_LR", set()),
    ],
)
def test_what_counts_as_reading_a_key(code, read):
    assert keys_read(ast.parse(code), set(flat(get_defaults()))) == read
