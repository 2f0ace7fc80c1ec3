"""Data sets of two cameras through `folder`: VIPeR and PRID 2011 in their published layouts and sizes."""

import pytest

from config import load_cfg
from datasets.__main__ import main
from datasets.readers.file_errors import FileErrors
from datasets.readers.folder import read_folder
from datasets.readers.registry import read_unchecked
from tests.datasets.readers.trees import write_images
from tests.helpers import REPOSITORY
from utils.errors import UserError

ANGLES = (0, 45, 90, 135, 180)


def touch(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def read(name, root, *opts):
    errors = FileErrors()
    cfg = load_cfg(str(REPOSITORY / f"configs/Own/{name}.yml"), ["DATASETS.ROOT_DIR", str(root), *opts])
    splits = read_unchecked(cfg, errors)
    errors.raise_if_errors("error")
    return splits


def pids_and_cameras(records):
    return {record.pid for record in records}, {record.camid for record in records}


def test_viper(tmp_path, caplog):
    names = [f"cam_a/{pid:03d}_{ANGLES[pid % 5]}.bmp" for pid in range(632)]
    names += [f"cam_b/{pid:03d}_{ANGLES[(pid + 2) % 5]}.bmp" for pid in range(632)]
    touch(tmp_path, names)
    (tmp_path / "README.txt").touch()
    splits = read("viper", tmp_path)
    assert [len(side) for side in (splits.train, splits.query, splits.gallery)] == [632, 316, 316]
    train, test = pids_and_cameras(splits.train), pids_and_cameras(splits.query)
    assert train[0] | test[0] == set(range(632))
    assert train[1] == {0, 1}
    assert test[1] == {0}
    assert pids_and_cameras(splits.gallery) == (test[0], {1})
    assert splits.has_cameras
    assert "in the training and in the test set" not in caplog.text
    assert splits.query == read("viper", tmp_path).query
    assert splits.query != read("viper", tmp_path, "DATASETS.SPLIT.SEED", "1").query


def test_prid2011(tmp_path, caplog):
    caplog.set_level("INFO")
    root = tmp_path / "prid_2011" / "single_shot"
    touch(root, [f"cam_a/person_{n:04d}.png" for n in range(1, 386)])
    touch(root, [f"cam_b/person_{n:04d}.png" for n in range(1, 750)])
    splits = read("prid2011", root)
    assert [len(side) for side in (splits.train, splits.query, splits.gallery)] == [200, 100, 649]
    train, query, gallery = (pids_and_cameras(side) for side in (splits.train, splits.query, splits.gallery))
    assert (len(train[0]), train[1], query[1], gallery[1]) == (100, {0, 1}, {0}, {1})
    assert query[0] < gallery[0]
    assert len(gallery[0]) == 649  # person_0201 and later of cam_a and of cam_b are other people
    assert max(int(record.path[-8:-4]) for record in (*splits.train, *splits.query)) == 200
    assert (
        "185 identities of query that the gallery does not have are left out; 549 are in the gallery alone"
        in caplog.text
    )


def test_the_check_finds_nothing_wrong(tmp_path, capsys):
    write_images(
        tmp_path, [f"cam_{camera}/{pid:03d}_{angle}.bmp" for pid in range(4) for camera, angle in (("a", 0), ("b", 90))]
    )
    config = str(REPOSITORY / "configs/Own/viper.yml")
    assert main(["check", "--config_file", config, "DATASETS.ROOT_DIR", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "matches: every query has one in the gallery" in out
    assert "identities: none is in train and in test" in out


def make_folder(root, directories, pattern=r"(?P<camid>[^/]+)/(?P<pid>\w+)\.png"):
    errors = FileErrors()
    splits = read_folder(root, errors, directories=directories, pattern=pattern, seed=0, train_share=0.5)
    errors.raise_if_errors("error")
    return splits


def test_errors(tmp_path):
    touch(tmp_path, ["set/a/x.png", "set/b/y.png", "set/c/z.png"])
    directories = {"train": "set", "query": "set/a", "gallery": "set/b"}
    with pytest.raises(UserError, match="no identity is in both query and gallery, so none can be tested"):
        make_folder(tmp_path, directories)
    touch(tmp_path, ["set/b/x.png"])
    with pytest.raises(UserError, match="one identity alone, x, in 1 images"):
        make_folder(tmp_path, directories)
    with pytest.raises(
        UserError, match=r"matches none of the 1 images below .*set/a; .* path below TRAIN, e\.g\. a/x\.png"
    ):
        make_folder(tmp_path, directories, r"(?P<pid>\w+)\.png")
    touch(tmp_path, ["set/a/y.png", "set/a/w-1.png"])
    with pytest.raises(UserError, match=r"set/a/w-1\.png: a/w-1\.png does not match DATASETS\.FOLDER\.PATTERN"):
        make_folder(tmp_path, directories)
    (tmp_path / "set/a/w-1.png").unlink()
    splits = make_folder(tmp_path, directories)
    assert [len(side) for side in (splits.train, splits.query, splits.gallery)] == [2, 1, 1]
    with pytest.raises(UserError, match="lies in .*, the directory of train"):
        make_folder(tmp_path, {**directories, "gallery": "set/a"})
