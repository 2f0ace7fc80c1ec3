"""The command line, and what an import of the package loads."""

import itertools
import json
import subprocess
import sys

import matplotlib.image
import pytest

import corruption
from corruption import CORRUPTIONS, SURVEILLANCE, UNSEEN
from corruption.__main__ import main
from corruption.names import ALL_FAMILIES
from tests.helpers import REPOSITORY
from utils.errors import UserError

HEAVY = {"numpy", "scipy", "torch", "matplotlib", "cv2", "PIL", "skimage", "yacs"}


def test_list(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    tables = [table.splitlines() for table in out.strip().split("\n\n")]
    names = {table[0].split()[1]: [line.split()[1] for line in table[2:]] for table in tables}
    assert {family: set(members) for family, members in names.items()} == {
        family: set(members) for family, members in ALL_FAMILIES.items()
    }
    assert sorted(itertools.chain(*names.values())) == sorted([*CORRUPTIONS, *UNSEEN, *SURVEILLANCE])


def test_grid(tmp_path):
    assert main(["grid", "--out", str(tmp_path / "grid.png")]) == 0
    grid = matplotlib.image.imread(tmp_path / "grid.png")
    assert grid.shape[1] == pytest.approx(2090, abs=100)
    assert main(["grid", "--type", "rain", "--out", str(tmp_path / "new" / "rain.png")]) == 0
    assert matplotlib.image.imread(tmp_path / "new" / "rain.png").shape[0] < grid.shape[0]
    assert main(["grid", "--type", "bar", "--type", "low_light", "--out", str(tmp_path / "further.png")]) == 0
    assert (tmp_path / "further.png").exists()


def test_grid_errors(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        main(["grid", "--image", str(tmp_path / "none.jpg"), "--out", str(tmp_path / "grid.png")])
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(UserError, match="cannot be read"):
        main(["grid", "--image", str(tmp_path / "text.jpg"), "--out", str(tmp_path / "grid.png")])
    with pytest.raises(UserError, match="unknown corruption"):
        main(["grid", "--type", "rian", "--out", str(tmp_path / "grid.png")])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="output directory .*file: cannot be written"):
        main(["grid", "--out", str(tmp_path / "file" / "grid.png")])


@pytest.mark.parametrize(
    "code",
    [
        "from corruption import CORRUPTIONS, FAMILIES, SEVERITIES",
        "from corruption.__main__ import main; main(['list'])",
        "from corruption.__main__ import make_parser; make_parser().format_help()",
    ],
)
def test_nothing_heavy_is_imported(code):
    code += f"; import json, sys; print(json.dumps(sorted({HEAVY} & sys.modules.keys())))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_every_name_of_the_package_can_be_imported():
    assert {"CORRUPTIONS", "FAMILIES", "UNSEEN", "check", "corrupt"} <= set(corruption.__all__)
    for name in corruption.__all__:
        assert getattr(corruption, name) is not None
