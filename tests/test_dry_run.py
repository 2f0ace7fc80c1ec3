"""train.py --dry-run, from the command line to the last batch."""

import tempfile

import pytest

from datasets.synthetic import generate
from tests.test_several_sets import SETTINGS
from train import main

SMALL = {"num_identities": 16, "num_cameras": 3, "images_per_camera": 2}

pytestmark = pytest.mark.usefixtures("restored_logging")


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """The current directory, in which temporary files lie too."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    settings = generate.SyntheticSettings
    monkeypatch.setattr(generate, "SyntheticSettings", lambda **given: settings(**{**SMALL, **given}))
    return tmp_path


def dry_run(**changes):
    settings = {**SETTINGS, "DATASETS.NAMES": "synthetic", "OUTPUT_DIR": "out", **changes}
    main(["--dry-run", *(str(part) for pair in settings.items() for part in pair)])


def left_in(directory):
    """What lies there, without the caches of torch among the temporary files."""
    paths = (str(path.relative_to(directory)) for path in directory.rglob("*"))
    return [path for path in paths if not path.startswith("temporary/torchinductor")]


def test_a_dry_run_writes_nothing(directory, capsys):
    dry_run()
    output = "".join(capsys.readouterr())
    assert f"data/synthetic does not exist; a dry run makes it in {directory}/temporary/" in output
    assert "train 48 images of 8 identities" in output
    assert "testing gallery, random: features" in output
    assert left_in(directory) == ["temporary"]
