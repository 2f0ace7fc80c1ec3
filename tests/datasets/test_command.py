import pytest

from datasets.__main__ import main
from tests.datasets.test_market1501 import write_tree


def test_check_prints_found_and_published_counts(tmp_path, capsys):
    write_tree(tmp_path)
    assert main(["check", "DATASETS.ROOT_DIR", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line.startswith(("train", "query", "gallery"))}
    assert rows["train"] == ["train", "3", "2", "3", "12936", "of", "751", "DIFFERS"]
    assert rows["gallery"] == ["gallery", "3", "2", "3", "15913", "of", "750", "DIFFERS"]


def test_synthesize_makes_a_set_once(tmp_path, capsys):
    arguments = ["synthesize", "--out", str(tmp_path / "drawn"), "--identities", "4", "--cameras", "2", "--images", "2",
                 "--workers", "1"]  # fmt: skip
    assert main(arguments) == 0
    made = (tmp_path / "drawn" / "manifest.json").stat().st_mtime_ns
    assert main(arguments) == 0
    assert capsys.readouterr().out.endswith("drawn: whole\n")
    assert (tmp_path / "drawn" / "manifest.json").stat().st_mtime_ns == made


def test_a_command_is_required(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "check" in capsys.readouterr().err
