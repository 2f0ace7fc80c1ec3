"""What train.py shows on terminals of two widths and in a pipe."""

import pytest

from datasets.synthetic.generate import SyntheticSettings, synthesize
from tests import commands
from tests.terminal import opened
from tests.test_main import options

STAGES = ("clean", "corrupted")
CHANGES = {
    "CFAT.STAGES": list(STAGES),
    **{f"CFAT.{stage.upper()}.MAX_EPOCHS": "1" for stage in STAGES},
    "SOLVER.EVAL_PERIOD": "1",
    "TEST.PROTOCOLS": ["clean", "corrupted"],
    "TEST.RANKED_QUERIES": "0",
}
SHOWN = {"TQDM_DISABLE": "0", "PYTHONIOENCODING": "utf-8"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("t")
    synthesize(root / "data" / "market1501", SyntheticSettings(num_identities=8, num_cameras=3, images_per_camera=2))
    return root


def arguments(root, output):
    return ["train.py", "--config_file", "configs/Synthetic/cfat.yml", *options(root, output, **CHANGES)]


@pytest.mark.parametrize("columns", [80, 40])
def test_one_line_for_each_stage_and_none_wider_than_the_terminal(root, tmp_path, columns):
    with opened(columns) as terminal:
        command = commands.Command(
            *arguments(root, tmp_path / "o"), stdout=terminal.path, stderr=terminal.path, environment=SHOWN
        )
        status = command.wait()
    lines = terminal.lines()
    assert status == 0, "\n".join(lines)
    for stage in STAGES:
        (bar,) = (line for line in lines if line.startswith(f"{stage} 1/1 |"))
        assert "loss " in bar
        assert all(field in bar for field in ("acc ", "lr ", " img/s")) == (columns == 80)
    assert not any(line.startswith("test |") for line in lines)  # cleared
    assert sum("mAP" in line and "1/1, corrupted: " in line for line in lines) == len(STAGES) or columns == 40
    texts = [line for line in lines if str(root.parent) not in line and "WARNING" not in line]  # paths may be long
    assert max(len(line) for line in texts if not line.startswith("  ")) <= columns
    assert max(map(len, texts)) <= 80
    assert any(line.startswith("  | corrupted | ") for line in lines)
    log = (tmp_path / "o" / "log.txt").read_text()
    assert "\r" not in log
    assert "% of the time waiting for data" in log
    assert "INFO corrupted, repeat 2/2: mINP " in log
    assert (tmp_path / "o" / "curves.png").stat().st_size > 10_000


def test_a_pipe_gets_a_short_line_an_epoch(root, tmp_path):
    done = commands.run(*arguments(root, tmp_path / "o"))
    assert done.returncode == 0, done.stderr
    assert "\r" not in done.stdout + done.stderr
    for stage in STAGES:
        (line,) = (line for line in done.stdout.splitlines() if f"{stage} 1/1: loss " in line)
        assert len(line) <= 80
        assert all(field in line for field in (" acc ", " lr ", " img/s", " <00:00"))
