"""A warning for each key that is given and that nothing in the experiment reads."""

import logging
from pathlib import Path

import pytest
import timm.optim

from config import get_defaults, load_cfg
from config.reads import MOMENTUM_OPTIMIZERS, NEEDS, READ_BY_TEST, SWITCHES
from tests.config.test_load import ROOT, flat, write
from utils.stage_identity import ALL, KEYS, Row, stages_that_read

# Read by every experiment, whatever its other keys are. SOLVER.GLOBAL_LOSS matters with several processes only, which
# no configuration knows; keys that raise an error in the wrong place, such as SOLVER.NESTEROV, are read there.
ALWAYS_READ = {
    *(
        "SEED",
        "OUTPUT_DIR",
        "UNKNOWN_KEYS",
        "UNREAD_KEYS",
        "LEFT_OUT_KEYS",
        "DATASETS.VALIDATION_SHARE",
        "MODEL.DEVICE",
        "MODEL.NAME",
        "MODEL.CHECKPOINT_ENTRY",
    ),
    *(f"INPUT.{name}" for name in ("SIZE_TRAIN", "SIZE_TEST", "PROB", "PADDING", "RE_PROB", "PIXEL_MEAN", "PIXEL_STD")),
    *(f"DATASETS.{name}" for name in ("NAMES", "TEST", "ROOT_DIR", "CHECK_COUNTS", "CHECK_IMAGES", "ON_BAD_IMAGE")),
    *(f"DATALOADER.{name}" for name in ("NUM_WORKERS", "CACHE", "SAMPLER")),
    *(f"SOLVER.{name}" for name in ("OPTIMIZER_NAME", "NESTEROV", "WEIGHT_DECAY", "WEIGHT_DECAY_BIAS")),
    *(f"SOLVER.{name}" for name in ("BIAS_LR_FACTOR", "LARGE_FC_LR", "SCHEDULER", "WARMUP_EPOCHS", "IMS_PER_BATCH")),
    *(f"SOLVER.{name}" for name in ("AMP", "COMPILE", "GRAD_CLIP", "GRAD_CHECKPOINT", "EMA_DECAY", "GLOBAL_LOSS")),
    *(f"SOLVER.{name}" for name in ("DETERMINISTIC", "RESUME", "LOG_PERIOD", "EVAL_PERIOD", "CHECKPOINT_PERIOD")),
    *(
        f"TEST.{name}"
        for name in (
            "WEIGHT",
            "IMS_PER_BATCH",
            "FEATURE",
            "FEAT_NORM",
            "FEATURE_DTYPE",
            "PROTOCOLS",
            "MATRIX",
            "METRIC",
            "SPLIT",
            "REPORT",
        )
    ),
    *("TEST.FLIP", "TEST.QUERY_EXPANSION"),
    *(f"TEST.{name}" for name in ("AP", "CMC", "RE_RANKING", "SAVE_FEATURES", "THRESHOLDS", "RANKED_QUERIES")),
    *(f"TEST.{name}" for name in ("ATTENTION_QUERIES", "EXPORT", "COMPARE", "BASELINE", "STAGES")),
    *("CFAT.STAGES", "CFAT.STAGE"),
}
RESNET = ("MODEL.NAME", "resnet50")
CLEAN = ("CFAT.STAGES", "[clean]")


def warned(caplog, config_file=None, opts=()) -> list[str]:
    """The keys that are warned of, in the order of the warnings."""
    caplog.clear()
    load_cfg(config_file, opts)
    messages = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    return [message.split(": ")[1].split(" is given")[0] for message in messages if "nothing in this run" in message]


def test_every_key_is_always_read_or_has_a_condition():
    of_some_stages = {
        f"{row.section}.{name}"
        for row in KEYS
        for name in row.names.split()
        if row.stages != ALL or row.when is not Row._field_defaults["when"]
    }
    conditional = (of_some_stages | set(NEEDS)) - {"INPUT.SIZE_TEST", "MODEL.CHECKPOINT_ENTRY"}  # the test reads them
    assert ALWAYS_READ | conditional == set(flat(get_defaults()))
    assert ALWAYS_READ & conditional == set()


def test_keys_with_a_purpose_or_a_reader_are_keys():
    keys = set(flat(get_defaults()))
    assert set(NEEDS) | set(READ_BY_TEST) | SWITCHES <= keys
    assert {key for key in READ_BY_TEST if not stages_that_read(key)} == set()


@pytest.mark.parametrize(
    ("opts", "unread"),
    [
        (["SOLVER.STEPS", "[1]", "SOLVER.GAMMA", "0.5"], ["SOLVER.STEPS", "SOLVER.GAMMA"]),
        (["SOLVER.STEPS", "[1]", "SOLVER.SCHEDULER", "multistep"], []),
        (["MODEL.GEM_POOL", "True", "MODEL.LAST_STRIDE", "2"], ["MODEL.LAST_STRIDE", "MODEL.GEM_POOL"]),
        (["MODEL.GEM_POOL", "False"], []),
        ([*RESNET, "MODEL.GEM_POOL", "True", "MODEL.STEM_RELU", "True"], []),
        (
            [*RESNET, "SOLVER.LAYER_DECAY", "0.7", "MODEL.STRIDE_SIZE", "[16, 16]"],
            ["MODEL.STRIDE_SIZE", "SOLVER.LAYER_DECAY"],
        ),
        ([*RESNET, "MODEL.SIE_CAMERA", "True"], ["MODEL.SIE_CAMERA"]),
        ([*RESNET, "MODEL.SIE_CAMERA", "False", "MODEL.SIE_VIEW", "False"], []),
        (["MODEL.SIE_COE", "2.0", "MODEL.SIE_CAMERA", "False"], ["MODEL.SIE_COE"]),
        (
            ["MODEL.RE_ARRANGE", "True", "MODEL.SHIFT_NUM", "8", "MODEL.DEVIDE_LENGTH", "2"],
            ["MODEL.RE_ARRANGE", "MODEL.SHIFT_NUM", "MODEL.DEVIDE_LENGTH"],
        ),
        (["MODEL.JPM", "True", "MODEL.RE_ARRANGE", "False", "MODEL.SHIFT_NUM", "8"], ["MODEL.SHIFT_NUM"]),
        (["SOLVER.MARGIN", "0.5"], ["SOLVER.MARGIN"]),
        (["SOLVER.MARGIN", "0.5", "MODEL.NO_MARGIN", "False"], []),
        (["MODEL.METRIC_LOSS_TYPE", "wrtriplet", "SOLVER.HARD_FACTOR", "0.1"], ["SOLVER.HARD_FACTOR"]),
        ([*CLEAN, "MODEL.TRIPLET_LOSS_WEIGHT", "0", "MODEL.METRIC_LOSS_TYPE", "triplet"], ["MODEL.METRIC_LOSS_TYPE"]),
        (
            ["SOLVER.CENTER_LR", "0.1", "SOLVER.CENTER_LOSS_WEIGHT", "0.1"],
            ["SOLVER.CENTER_LOSS_WEIGHT", "SOLVER.CENTER_LR"],
        ),
        (["SOLVER.CENTER_LR", "0.1", "MODEL.IF_WITH_CENTER", "True"], []),
        (["SOLVER.MOMENTUM", "0.9", "SOLVER.OPTIMIZER_NAME", "Adam"], ["SOLVER.MOMENTUM"]),
        (["SOLVER.MOMENTUM", "0.9", "SOLVER.OPTIMIZER_NAME", "SGDW"], []),
        (["SOLVER.COSINE_MARGIN", "0.3"], ["SOLVER.COSINE_MARGIN"]),
        (["SOLVER.COSINE_MARGIN", "0.3", "MODEL.ID_LOSS_TYPE", "cosface"], []),
        (["INPUT.MIXING_COEFF", "[1, 2]"], ["INPUT.MIXING_COEFF"]),
        (["INPUT.MIXING_COEFF", "[1, 2]", "INPUT.ERASING_TYPE", "soft"], []),
        (["INPUT.ERASING_TYPE", "soft", "INPUT.RE_PROB", "0"], ["INPUT.ERASING_TYPE"]),
        (["MODEL.CONSISTENCY_LOSS_WEIGHT", "3"], ["MODEL.CONSISTENCY_LOSS_WEIGHT"]),
        (
            ["DATASETS.CUHK03.BOXES", "labeled", "DATASETS.MSMT17.WITH_VAL", "False", "DATASETS.CSV.FILE", "a.csv"],
            ["DATASETS.CUHK03.BOXES", "DATASETS.MSMT17.WITH_VAL", "DATASETS.CSV.FILE"],
        ),
        (["DATASETS.NAMES", "cuhk03-C", "DATASETS.CUHK03.BOXES", "labeled"], []),
        (["DATASETS.TEST", "['csv:gate', msmt17]", "DATASETS.CSV.FILE", "a.csv", "DATASETS.MSMT17.VERSION", "V1"], []),
        (["DATALOADER.BALANCE", "sets"], ["DATALOADER.BALANCE"]),
        (["DATALOADER.BALANCE", "sets", "DATASETS.NAMES", "[market1501, msmt17]"], []),
        (
            ["DATASETS.NAMES", "csv", "DATASETS.SPLIT.SEED", "1", "DATASETS.FOLDER.TRAIN", "a"],
            ["DATASETS.FOLDER.TRAIN"],
        ),
        (["DATALOADER.SAMPLER", "softmax", "DATALOADER.NUM_INSTANCE", "4"], ["DATALOADER.NUM_INSTANCE"]),
        (["TEST.RE_RANKING_K1", "30"], ["TEST.RE_RANKING_K1"]),
        (["TEST.RE_RANKING_K1", "30", "TEST.RE_RANKING", "True"], []),
        (
            ["TEST.MATRIX_REPEATS", "2", "TEST.PROTOCOLS", "[clean]", "TEST.REPEATS", "3"],
            ["TEST.REPEATS", "TEST.MATRIX_REPEATS"],
        ),
        (
            [*CLEAN, "TEST.PROTOCOLS", "[clean]", "CORRUPTION.TRAIN", "noise", "CORRUPTION.SEVERITIES", "[1]"],
            ["CORRUPTION.TRAIN", "CORRUPTION.SEVERITIES"],
        ),
        ([*CLEAN, "CORRUPTION.TRAIN", "noise", "CORRUPTION.TEST", "unseen"], []),
        (
            [*CLEAN, "TEST.PROTOCOLS", "[clean, unseen]", "CORRUPTION.TEST", "noise", "CORRUPTION.SEVERITIES", "[1]"],
            ["CORRUPTION.TEST"],
        ),
        ([*CLEAN, "TEST.PROTOCOLS", "[unseen]", "CORRUPTION.TRAIN", "noise", "TEST.REPEATS", "2"], []),
        (
            [*CLEAN, "CFAT.COARSE.WEIGHT", "0.5", "CFAT.FINE.NOISE", "0.1", "CFAT.BRIDGE.MAX_EPOCHS", "3"],
            ["CFAT.BRIDGE.MAX_EPOCHS", "CFAT.COARSE.WEIGHT", "CFAT.FINE.NOISE"],
        ),
        (["CFAT.COARSE.WEIGHT", "0", "CFAT.COARSE.TEMPERATURE", "0.1"], ["CFAT.COARSE.TEMPERATURE"]),
        (["CFAT.CLEAN.WEIGHT", "a.pth", "CFAT.CLEAN.MAX_EPOCHS", "3"], ["CFAT.CLEAN.MAX_EPOCHS"]),
        ([*CLEAN, "CFAT.CLEAN.MAX_EPOCHS", "3", "SOLVER.MAX_EPOCHS", "9"], ["SOLVER.MAX_EPOCHS"]),
        ([*CLEAN, "CFAT.CLEAN.TRIPLET_ON", "neck", "MODEL.TRIPLET_ON", "class_token"], ["MODEL.TRIPLET_ON"]),
        (["CFAT.CLEAN.TRIPLET_ON", "class_token", "MODEL.TRIPLET_ON", "neck"], []),
        (
            ["MODEL.TRIPLET_LOSS_WEIGHT", "0", "MODEL.TRIPLET_ON", "neck", "CFAT.ALIGN.TRIPLET_ON", "neck"],
            ["MODEL.TRIPLET_ON", "CFAT.ALIGN.TRIPLET_ON"],
        ),
        (
            ["CFAT.STAGES", "[bridge, align]", "CFAT.ALIGN.TRIPLET_ON", "neck", "MODEL.TRIPLET_ON", "neck"],
            ["MODEL.TRIPLET_ON"],
        ),
        (["CFAT.STAGES", "[align]", "MODEL.PRETRAIN_PATH", "a.pth"], ["MODEL.PRETRAIN_PATH"]),
        (
            ["CFAT.STUDENT_INIT", "teacher", "CFAT.STAGES", "[align]", "CFAT.CORRUPTED.WEIGHT", "a"],
            ["CFAT.CORRUPTED.WEIGHT"],
        ),
        (["SOLVER.WARMUP_EPOCHS", "0", "SOLVER.WARMUP_FACTOR", "0.1"], ["SOLVER.WARMUP_FACTOR"]),
    ],
)
def test_a_warning_for_each_key_that_nothing_reads(opts, unread, caplog):
    assert warned(caplog, opts=opts) == unread


def test_a_warning_says_where_and_what_the_key_is_for(caplog):
    load_cfg(opts=["SOLVER.GAMMA", "0.1"])  # the default, and still in vain
    assert [record.message for record in caplog.records] == [
        "command line: SOLVER.GAMMA is given, and nothing in this run reads it: it is for SOLVER.SCHEDULER multistep"
    ]


def test_keys_of_a_base_may_wait_for_others(tmp_path, caplog):
    write(tmp_path / "base.yml", "SOLVER: {STEPS: [1], MARGIN: 0.4}\n")
    path = write(tmp_path / "a.yml", "_BASE_: base.yml\nSOLVER: {GAMMA: 0.5, STEPS: [2]}\n")
    assert warned(caplog, path) == ["SOLVER.STEPS", "SOLVER.GAMMA"]


def test_a_merged_configuration_gives_every_key_and_says_nothing_by_it(tmp_path, caplog):
    opts = ["SOLVER.MARGIN", "0.7"]
    assert warned(caplog, opts=opts) == ["SOLVER.MARGIN"]
    path = write(tmp_path / "config.yml", load_cfg(opts=opts).dump())  # as a run writes it
    assert warned(caplog, path) == []
    assert warned(caplog, path, ["SOLVER.GAMMA", "0.1"]) == ["SOLVER.GAMMA"]
    assert load_cfg(path).dump() == load_cfg(opts=opts).dump()


@pytest.mark.parametrize("stage", ["clean", "corrupted", "bridge", "align"])
@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").glob("*/*cfat.yml")), ids=lambda path: Path(path).parent.name
)
def test_the_stages_of_the_shipped_files_warn_of_nothing_of_their_own(path, stage, caplog):
    found = warned(caplog, str(path), ["CFAT.STAGE", stage])
    assert found == []


def test_optimizers_with_momentum_are_timms():
    names = timm.optim.list_optimizers()
    assert {name for name in names if timm.optim.get_optimizer_info(name).has_momentum} == MOMENTUM_OPTIMIZERS
