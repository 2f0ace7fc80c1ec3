import errno
import os

import pytest
import torch

from utils.checkpoints import load_checkpoint, save_checkpoint
from utils.errors import UserError, run_main
from utils.files import make_output_dir, write_files, write_text
from model.weights.state_dicts import find_model


def test_other_content_keeps_the_earlier_file(tmp_path):
    path = tmp_path / "results.json"
    for text in ("one", "one", "two", "three"):
        write_text(path, text)
    assert path.read_text() == "three"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["results.1.json", "results.2.json", "results.json"]
    assert (tmp_path / "results.1.json").read_text() == "one"


def test_failed_write_leaves_the_earlier_files(tmp_path):
    paths = [tmp_path / "results.json", tmp_path / "results.csv"]
    for path in paths:
        path.write_text("whole")

    def fill_the_disk(partial):
        partial.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(UserError, match=r"results\.csv: could not be written .*No space left"):
        write_files({paths[0]: lambda partial: partial.write_text("new"), paths[1]: fill_the_disk})
    assert [path.read_text() for path in paths] == ["whole", "whole"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_files_that_belong_together_are_kept_under_one_number(tmp_path):
    json, csv = tmp_path / "r.json", tmp_path / "r.csv"
    (tmp_path / "r.1.csv").write_text("stray")
    for content in ("a", "b"):
        write_files(
            {json: lambda partial, text=content: partial.write_text(text), csv: lambda partial: partial.touch()}
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.1.csv", "r.2.csv", "r.2.json", "r.csv", "r.json"]
    assert ((tmp_path / "r.2.json").read_text(), json.read_text()) == ("a", "b")


def test_output_dir_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"output directory .*file/run: cannot be written .*choose another one"):
        make_output_dir(tmp_path / "file" / "run")


def test_checkpoint_round_trip_and_previous_run(tmp_path, monkeypatch):
    path = tmp_path / "checkpoints" / "clean.pth"
    for number, value in enumerate((1.0, 2.0, 2.0)):  # the third is the second again: nothing to keep
        monkeypatch.setattr(os, "getpid", lambda number=number: 1000 + number)  # runs are processes of their own
        save_checkpoint(path, {"model": {"weight": torch.full((2,), value)}}, {"stage": "clean", "epoch": 3})
    content = load_checkpoint(path)
    assert content["meta"] == {"stage": "clean", "epoch": 3}
    assert find_model(content, path)[0]["weight"].tolist() == [2.0, 2.0]
    earlier = load_checkpoint(path.with_name("clean.1.pth"))
    assert earlier["model"]["weight"].tolist() == [1.0, 1.0]
    assert sorted(file.name for file in path.parent.iterdir()) == ["clean.1.pth", "clean.pth"]


@pytest.mark.parametrize(
    "wrap", [lambda state: state, lambda state: {"state_dict": state}, lambda state: {"model": state}]
)
def test_released_wrappings(tmp_path, wrap):
    path = tmp_path / "released.pth"
    torch.save(wrap({"module.base.norm.weight": torch.ones(3)}), path)
    assert list(find_model(load_checkpoint(path), path)[0]) == ["base.norm.weight"]


class Arbitrary:
    pass


def test_unreadable_checkpoints(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_checkpoint(tmp_path / "missing.pth")
    torch.save({"model": Arbitrary()}, tmp_path / "code.pth")
    with pytest.raises(UserError, match="arbitrary unpickling"):
        load_checkpoint(tmp_path / "code.pth")
    torch.save({"model": {"w": torch.zeros(1000)}}, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:2000])
    with pytest.raises(UserError, match=r"cut\.pth"):
        load_checkpoint(tmp_path / "cut.pth")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(UserError, match=r"text\.pth"):
        load_checkpoint(tmp_path / "text.pth")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    with pytest.raises(UserError, match="holds a Tensor"):
        load_checkpoint(tmp_path / "tensor.pth")


def test_user_error_of_a_worker_shows_its_last_message():
    text = (
        "Caught UserError in DataLoader worker process 0.\nTraceback ...\nutils.errors.UserError: picture a.jpg: cannot"
    )
    assert str(UserError(text)) == "picture a.jpg: cannot"


def test_run_main_turns_errors_into_status_1(capsys):
    def fail():
        raise UserError("what, where, next")

    assert run_main(fail) == 1
    assert capsys.readouterr().err == "error: what, where, next\n"
    assert run_main(lambda: None) == 0
    with pytest.raises(ZeroDivisionError):
        run_main(lambda: 1 / 0)
