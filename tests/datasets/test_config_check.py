"""The package's check of a configuration: errors before anything is read."""

import pytest

from config import load_cfg
from datasets import check
from datasets.readers.registry import CONFIGURED
from utils.errors import UserError
from utils.structures import DatasetSplits, ImageRecord


def make_cfg(**changes):
    """The defaults with keys changed past the checks of load_cfg, as DATASETS__NAMES=["tracks"]."""
    cfg = load_cfg(opts=["DATASETS.ROOT_DIR", "/nowhere"]).clone()
    cfg.defrost()
    for name, value in changes.items():
        section, key = name.split("__")
        cfg[section][key] = value
    return cfg


@pytest.mark.parametrize(
    "name",
    [
        *("market1501", "cuhk03", "msmt17", "synthetic", "folder", "csv", "market1501-C", "dukemtmc", "occluded_duke"),
        *("occ_duke", "occluded_reid", "veri", "VehicleID", "vehicleid", "market1501_500k", "dukemtmc-C"),
    ],
)
def test_known_names_are_fine_and_nothing_is_read(name):
    check(make_cfg(DATASETS__NAMES=[name]))
    check(make_cfg(DATASETS__NAMES=[f"{name}:a/directory"], DATASETS__TEST=[name]))


@pytest.mark.parametrize("name", ["market1501", "msmt17", "dukemtmc", "occ_duke", "veri", "VehicleID"])
def test_names_as_files_of_the_transreid_codebase_write_them(tmp_path, name):
    text = f"MODEL: {{DEVICE_ID: ('0')}}\nDATASETS:\n  NAMES: ('{name}')\nSOLVER: {{IMS_PER_BATCH: 64}}\n"
    (tmp_path / "a.yml").write_text(text)
    check(load_cfg(str(tmp_path / "a.yml")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"DATASETS__NAMES": ["tracks"]}, "DATASETS.NAMES 'tracks': unknown data set; known are market1501, "),
        (
            {"DATASETS__TEST": ["cuhk03", "tracks:a"]},
            "DATASETS.TEST 'tracks:a': unknown data set; known are market1501, ",
        ),
        ({"DATASETS__NAMES": ["cuhk03,msmt17"]}, r"unknown data set.*; several are a list: \['cuhk03', 'msmt17'\]"),
        (
            {"DATASETS__NAMES": ["cuhk03", "csv", "folder"], "DATALOADER__BALANCE": "sets"},
            "BALANCE sets: SOLVER.IMS_PER_BATCH 64 = 8 identities x 8 images; each of 3 training sets gives as many; "
            "expected SOLVER.IMS_PER_BATCH a multiple of 24",
        ),
        (
            {"DATASETS__NAMES": ["VIPeR"]},
            r"\(or another suffix\); this one is read as folder, .*_file configs/Own/viper.yml$",
        ),
        ({"DATASETS__TEST": ["prid2011:a"]}, "read as folder, as in --config_file configs/Own/prid2011.yml$"),
        ({"DATASETS__NAMES": ["prid"]}, "read as folder, as in --config_file configs/Own/prid2011.yml$"),
        (
            {"DATASETS__TEST": ["occ_duke", "OCC_Duke", "cuhk03", "occluded_duke", "cuhk03:a"]},
            "^DATASETS.NAMES and TEST: 'occ_duke', 'OCC_Duke', 'occluded_duke' name the same data set; expected",
        ),
        (
            {"DATASETS__NAMES": ["folder:a/"], "DATASETS__TEST": ["Folder:/nowhere/a", "folder:b"]},
            "'folder:a/', 'Folder:/nowhere/a' name the same data set",
        ),
        ({"SOLVER__IMS_PER_BATCH": 12}, r"IMS_PER_BATCH 12 = 1.5 identities x 8 images .*a multiple of 8"),
        ({"DATALOADER__NUM_INSTANCE": 1}, "DATALOADER.NUM_INSTANCE 1: the triplet loss .*expected at least 2"),
        ({"DATASETS__ON_BAD_IMAGE": "skip", "DATASETS__CHECK_IMAGES": False}, "ON_BAD_IMAGE skip: DATASETS.CHECK_IMAG"),
    ],
)
def test_keys_that_are_wrong(changes, message):
    with pytest.raises(UserError, match=message):
        check(make_cfg(**changes))


def test_without_triplets_a_batch_may_have_any_size():
    check(make_cfg(DATALOADER__SAMPLER="softmax", SOLVER__IMS_PER_BATCH=13, DATALOADER__NUM_INSTANCE=1))


def test_all_errors_at_once():
    with pytest.raises(UserError, match=r"unknown data set(.|\n)*IMS_PER_BATCH 12"):
        check(make_cfg(DATASETS__NAMES=["tracks"], SOLVER__IMS_PER_BATCH=12))


def test_groups_of_the_pattern():
    cfg = make_cfg(DATASETS__NAMES=["folder:photos"])
    cfg.DATASETS.FOLDER.PATTERN = r"(?P<pid>\d+)/(?P<camera>.).*"
    with pytest.raises(UserError, match="unknown group camera; expected pid, camid, viewid"):
        check(cfg)


def test_a_training_set_without_a_batch():
    splits = DatasetSplits(tuple(ImageRecord(f"{pid}.jpg", pid, 0) for pid in range(7)), (), ())
    check(make_cfg(SOLVER__IMS_PER_BATCH=56), splits)
    with pytest.raises(UserError, match="has 7 identities, a batch of 64 = 8 identities x 8 images needs 8"):
        check(make_cfg(SOLVER__IMS_PER_BATCH=64), splits)


def test_configurations_of_data_sets_without_a_reader_exist():
    for path in CONFIGURED.values():
        assert load_cfg(path).DATASETS.NAMES == ["folder"]
