import shutil

import pytest
import torch

from config import load_cfg
from corruption import PROTOCOLS
from corruption.__main__ import main as corruption_main
from datasets import make_dataloader, read_dataset
from datasets.__main__ import main
from datasets.synthetic.generate import SyntheticSettings, synthesize
from processor import do_inference
from utils.errors import UserError
from utils.structures import Condition

SETTINGS = SyntheticSettings(num_identities=12, num_cameras=3, images_per_camera=2)
IMAGE = "bounding_box_test/0007_c1s2_004232_01.png"


class MeanColours(torch.nn.Module):
    """The mean colours of an image's six bands: enough to rank by."""

    def extract(self, images, camids, viewids):
        return images.float().unflatten(2, (6, -1)).mean(dim=(3, 4)).flatten(1)


def export(root, *options, source="market1501", out="market1501-C"):
    paths = ["--data", str(root / source), "--out", str(root / out)]
    assert corruption_main(["export", *paths, "--workers", "2", *options]) == 0


def configure(root, name, *opts):
    fixed = [
        "DATASETS.ROOT_DIR",
        root,
        "DATASETS.CHECK_COUNTS",
        False,
        "INPUT.SIZE_TEST",
        [96, 48],
        "SEED",
        7,
        "DATALOADER.NUM_WORKERS",
        0,
        "DATASETS.NAMES",
        name,
    ]
    return load_cfg(opts=[*map(str, fixed), *opts])


def check(root, name):
    return main(["check", "DATASETS.ROOT_DIR", str(root), "DATASETS.NAMES", name])


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """A directory with market1501, and its copies -C (all types and severities) and -fog3; only to be read."""
    root = tmp_path_factory.mktemp("data")
    synthesize(root / "market1501", SETTINGS, workers=1)
    export(root, "--seed", "7")
    export(root, "--seed", "7", "--repeat", "1", "--type", "fog", "--severity", "3", out="market1501-fog3")
    return root


@pytest.fixture
def root(data_root, tmp_path):
    """A directory with the copy -C alone."""
    shutil.copytree(data_root / "market1501-C", tmp_path / "market1501-C")
    return tmp_path


def test_a_copy_is_read_like_its_original(data_root):
    original, copy = (read_dataset(configure(data_root, name)) for name in ("market1501", "market1501-C"))
    assert (copy.name, copy.root) == ("market1501-C", str(data_root / "market1501-C"))
    for split in ("train", "query", "gallery"):
        identities = [(r.pid, r.camid, r.viewid) for r in getattr(original, split)]
        assert [(r.pid, r.camid, r.viewid) for r in getattr(copy, split)] == identities


@pytest.mark.parametrize(
    ("copy", "repeat", "opts"),
    [
        ("market1501-C", 0, []),
        ("market1501-fog3", 1, ["CORRUPTION.TEST", "['fog']", "CORRUPTION.SEVERITIES", "[3]"]),
    ],
)
def test_testing_the_copy_is_testing_on_the_fly(data_root, copy, repeat, opts):
    original = make_dataloader(configure(data_root, "market1501", *opts), with_train=False)
    copied = make_dataloader(configure(data_root, copy), with_train=False)
    for split in ("query", "gallery"):
        for index in range(len(getattr(original.splits, split))):
            corrupted = original.read_test_image(split, index, Condition("random"), repeat)
            assert (copied.read_test_image(split, index, Condition(), 0) == corrupted).all()

    def test(data, protocol):
        return do_inference(MeanColours(), data, (PROTOCOLS[protocol],), device=torch.device("cpu"), repeats=2)

    on_the_fly, on_the_copy = test(original, "corrupted")["corrupted"].repeats[repeat], test(copied, "clean")["clean"]
    assert (on_the_copy.mAP, on_the_copy.mINP) == (on_the_fly.mAP, on_the_fly.mINP)
    assert (on_the_copy.cmc == on_the_fly.cmc).all()
    assert on_the_copy.mAP != test(original, "clean")["clean"].mAP


def test_a_copy_in_another_directory_keeps_its_name(root):
    (root / "copies").mkdir()
    (root / "market1501-C").rename(root / "copies" / "market1501-C")
    splits = read_dataset(configure(root, "market1501-C:copies"))
    assert (splits.name, splits.root) == ("market1501-C:copies", str(root / "copies" / "market1501-C"))
    (root / "copies" / "market1501-C").rename(root / "m-bar")
    with pytest.raises(UserError, match="no .*m-bar/market1501-C or .*make it with"):
        read_dataset(configure(root, "market1501-C:m-bar"))


def test_both_directory_names_and_the_published_counts(root):
    (root / "market1501-C").rename(root / "Market-1501-v15.09.15-C")
    assert read_dataset(configure(root, "market1501-C")).root == str(root / "Market-1501-v15.09.15-C")
    with pytest.raises(UserError, match=r"-C: not market1501-C as published: train: 36 images of 6 identities"):
        read_dataset(configure(root, "market1501-C", "DATASETS.CHECK_COUNTS", "True"))


def test_a_copy_of_the_synthetic_set_is_read_and_never_rendered(root):
    with pytest.raises(UserError, match=f"no {root}/synthetic-C; make it with: python -m corruption export --data "):
        read_dataset(configure(root, "synthetic-C"))
    assert [path.name for path in root.iterdir()] == ["market1501-C"]
    (root / "market1501-C").rename(root / "synthetic-C")
    assert read_dataset(configure(root, "synthetic-C")).name == "synthetic-C"


def test_a_copy_that_is_not_complete_is_not_read(root):
    copy = root / "market1501-C"
    (copy / IMAGE).rename(copy / "query" / "0099_c1s1_000001_01.png")
    with pytest.raises(UserError, match=rf"{IMAGE} is missing \(1 of the .* run the same export command again"):
        read_dataset(configure(root, "market1501-C"))
    shutil.copy(copy / "query" / "0099_c1s1_000001_01.png", copy / IMAGE)
    with pytest.raises(UserError, match=r"query/0099_c1s1_000001_01\.png is not in manifest\.json"):
        read_dataset(configure(root, "market1501-C"))
    for content in ("{", "[]", '{"counts": {}}'):
        (copy / "manifest.json").write_text(content)
        with pytest.raises(UserError, match=r"manifest\.json: (cannot be read|not the manifest of a copy)"):
            read_dataset(configure(root, "market1501-C"))
    (copy / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"the copy is not complete, .* run the same export command"):
        read_dataset(configure(root, "market1501-C"))


@pytest.mark.parametrize("name", ["msmt17-C", "market1501-", "market1501-../other", "market1501C", "-C"])
def test_names_of_no_copy(root, name):
    message = "unknown data set; known are market1501, .*, and corrupted copies: market1501-C, cuhk03-C, .*synthetic-C"
    with pytest.raises(UserError, match=message):
        read_dataset(configure(root, name))


def test_check_finds_damaged_files_and_export_mends_them(data_root, root, capsys):
    shutil.copytree(data_root / "market1501", root / "market1501")
    total = len(list((root / "market1501-C").glob("*/*")))
    assert check(root, "market1501-C") == 1  # the counts are not the published ones
    assert f"sha256: all {total} files are those of manifest.json" in capsys.readouterr().out
    for name in ("market1501", "market1501-C"):
        (root / name).rename(root / name.replace("market1501", "synthetic"))
    assert check(root, "synthetic-C") == 0

    image = root / "synthetic-C" / IMAGE
    whole = image.read_bytes()
    image.write_bytes(whole[:-1] + b"?")
    assert check(root, "synthetic-C") == 1
    out = capsys.readouterr().out
    assert f"sha256: 1 of {total} files DIFFER from manifest.json, the first is {IMAGE}; run the same export" in out
    (root / "synthetic").rename(root / "market1501")
    export(root, "--seed", "7", out="synthetic-C")
    assert image.read_bytes() == whole
    assert check(root, "synthetic-C") == 0


def test_a_copy_of_another_name_is_found_by_its_content(tmp_path):
    synthesize(tmp_path / "market", SETTINGS)
    (tmp_path / "market" / "manifest.json").unlink()
    export(tmp_path, source="market", out="market-C")
    splits = read_dataset(configure(tmp_path, "market1501-C"))
    assert splits.root == str(tmp_path / "market-C")
    with pytest.raises(UserError, match="no .*/market1501-D or .*-D; make it with"):
        read_dataset(configure(tmp_path, "market1501-D"))
    shutil.copytree(tmp_path / "market-C", tmp_path / "old" / "m-C")
    with pytest.raises(UserError, match="several directories have its content"):
        read_dataset(configure(tmp_path, "market1501-C"))
