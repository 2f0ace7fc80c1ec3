"""Keys and values of the TransReID codebase and of earlier versions: all of them load."""

import json
import logging

import pytest
import yaml

from config import ConfigError, get_defaults, load_cfg
from config.codebases import TRANSREID_DEFAULTS
from config.legacy_keys import CODEBASE_KEYS
from model import make_model
from tests.config.test_load import ROOT, errors_of, flat, write
from tests.helpers import GOLDEN as GOLDEN_DIR

GOLDEN = json.loads((GOLDEN_DIR / "codebase_config_keys.json").read_text(encoding="utf-8"))
SEEN = "values seen in the published YAML files"
# tMODEL is MODEL misspelt, which no code of theirs reads.
PUBLISHED = {key: texts for key, texts in GOLDEN[SEEN].items() if not key.startswith("tMODEL.")}
PROJECTS = [project for project in GOLDEN if project != SEEN]
OURS = flat(get_defaults())

# What a value of the codebase must become, where it is not the same value under the same name.
SWITCHES = {"on": True, "yes": True, "off": False, "no": False}
FEATURES = {"after": "neck", "before": "class_token"}


def expected_of(key: str, value) -> dict:
    """Our keys and values that `key: value` alone must become; {} where it is dropped."""
    if key == "SOLVER.SEED":
        return {"SEED": value}
    if key == "TEST.NECK_FEAT":
        return {"TEST.FEATURE": FEATURES[value]}
    if key in CODEBASE_KEYS:
        return {}
    if (key, value) in [("MODEL.TRANSFORMER_TYPE", ""), ("MODEL.TRANSFORMER_TYPE", "None")]:
        return {key: OURS[key]}
    if key in ("OUTPUT_DIR", "DATASETS.ROOT_DIR") and value == "":
        return {key: OURS[key]}
    if isinstance(OURS[key], bool) and isinstance(value, str):
        return {key: SWITCHES[value]}
    if isinstance(OURS[key], float):
        return {key: float(value)}
    if isinstance(value, str) and value.startswith("("):
        value = value.strip("()'")
    if isinstance(OURS[key], list) and isinstance(value, str):
        return {key: [value]}
    return {key: value}


def nested(values: dict) -> dict:
    tree: dict = {}
    for key, value in values.items():
        section, _, leaf = key.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[leaf] = value
    return tree


def messages(caplog, level: int) -> list[str]:
    return [
        record.message
        for record in caplog.records
        if record.name in ("config.legacy", "config.codebases", "config.merge") and record.levelno == level
    ]


@pytest.mark.parametrize(
    ("project", "key"), [(project, key) for project in PROJECTS for key in GOLDEN[project]], ids=lambda value: value
)
def test_every_default_of_the_codebase_loads(project, key, tmp_path, caplog):
    value = GOLDEN[project][key]
    with caplog.at_level(logging.INFO):
        loaded = flat(load_cfg(write(tmp_path / "a.yml", yaml.safe_dump(nested({key: value})))))
    expected = expected_of(key, value)
    assert {name: loaded[name] for name in expected} == expected
    # Exactly one line for what was translated or dropped, none for what is taken as it is.
    kept = expected.get(key, object()) in (value, [value])
    assert len(messages(caplog, logging.INFO)) == (0 if kept else 1)


@pytest.mark.parametrize(
    ("key", "text"), [(key, text) for key in PUBLISHED for text in PUBLISHED[key]], ids=lambda value: value
)
def test_every_value_of_the_published_files_loads(key, text, tmp_path):
    section, leaf = key.split(".")
    path = write(tmp_path / "a.yml", f"{section}:\n  {leaf}: {text}\n")
    loaded = flat(load_cfg(path))
    expected = expected_of(key, yaml.safe_load(text))
    assert {name: loaded[name] for name in expected} == expected


@pytest.mark.parametrize("project", PROJECTS)
def test_a_file_with_every_key_of_a_project_loads(project, tmp_path):
    given = dict(GOLDEN[project])
    loaded = flat(load_cfg(write(tmp_path / "a.yml", yaml.safe_dump(nested(given)))))
    expected: dict = {}
    for key, value in given.items():
        expected |= expected_of(key, value)
    expected["CFAT.STAGES"] = ["clean"]
    assert {name: loaded[name] for name in expected} == expected


# In the form of the published files, with the values that they use.
TRANSREID_FILE = """\
MODEL:
  PRETRAIN_CHOICE: 'imagenet'
  PRETRAIN_PATH: 'weights/jx_vit_base_p16_224-80ecf9dd.pth'
  METRIC_LOSS_TYPE: 'triplet'
  IF_LABELSMOOTH: 'off'
  IF_WITH_CENTER: 'no'
  NAME: 'transformer'
  NO_MARGIN: True
  DEVICE_ID: ('0')
  TRANSFORMER_TYPE: 'vit_base_patch16_224_TransReID'
  STRIDE_SIZE: [12, 12]
  SIE_CAMERA: True
  SIE_COE: 3.0
  JPM: True
  RE_ARRANGE: True
INPUT:
  SIZE_TRAIN: [256, 128]
  SIZE_TEST: [256, 128]
  PROB: 0.5
  RE_PROB: 0.5
  PADDING: 10
  PIXEL_MEAN: [0.5, 0.5, 0.5]
  PIXEL_STD: [0.5, 0.5, 0.5]
DATASETS:
  NAMES: ('market1501')
  ROOT_DIR: '../../data'
DATALOADER:
  SAMPLER: 'softmax_triplet'
  NUM_INSTANCE: 4
  NUM_WORKERS: 8
SOLVER:
  OPTIMIZER_NAME: 'SGD'
  MAX_EPOCHS: 120
  BASE_LR: 0.008
  IMS_PER_BATCH: 64
  WARMUP_METHOD: 'linear'
  LARGE_FC_LR: False
  CHECKPOINT_PERIOD: 120
  LOG_PERIOD: 50
  EVAL_PERIOD: 120
  WEIGHT_DECAY: '1e-4'
  WEIGHT_DECAY_BIAS: 1e-4
  BIAS_LR_FACTOR: 2
TEST:
  EVAL: True
  IMS_PER_BATCH: 256
  RE_RANKING: False
  WEIGHT: ''
  NECK_FEAT: 'before'
  FEAT_NORM: 'yes'
OUTPUT_DIR: '../logs/market_vit_transreid_stride'
"""
CIL_FILE = TRANSREID_FILE.replace("INPUT:\n", "INPUT:\n  MEAN_FEAT: False\n  SELF_ID: True\n  ERASING_TYPE: 'normal'\n")


def test_a_transreid_file_means_its_own_experiment(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.yml", TRANSREID_FILE)
    with caplog.at_level(logging.INFO):
        cfg = load_cfg("a.yml")
    assert cfg.DATASETS.NAMES == ["market1501"]
    assert (cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.WEIGHT_DECAY_BIAS, cfg.SOLVER.BIAS_LR_FACTOR) == (1e-4, 1e-4, 2.0)
    assert (cfg.MODEL.IF_LABELSMOOTH, cfg.TEST.FEAT_NORM, cfg.TEST.FEATURE) == (False, True, "class_token")
    assert (cfg.SOLVER.MOMENTUM, cfg.CFAT.STAGES) == (0.9, ["clean"])
    assert messages(caplog, logging.WARNING) == [
        "a.yml: a file of the TransReID codebase (it has MODEL.PRETRAIN_CHOICE, MODEL.DEVICE_ID, SOLVER.WARMUP_METHOD, "
        "...); keys that it leaves out get that codebase's defaults in place of ours (and CFAT.STAGES: plain training "
        "on clean images): SOLVER.MOMENTUM 0.9 (ours 0.0), TEST.RE_RANKING_K1 50 (ours 20), TEST.RE_RANKING_K2 15 "
        "(ours 6), CFAT.STAGES ['clean'] (ours ['clean', 'corrupted', 'bridge', 'align'])"
    ]
    assert messages(caplog, logging.INFO) == [
        "a.yml: MODEL.PRETRAIN_CHOICE 'imagenet' -> dropped (MODEL.PRETRAIN_PATH names the initial weights, '' for "
        "random ones; a trained model goes into TEST.WEIGHT or CFAT.<STAGE>.WEIGHT)",
        "a.yml: MODEL.IF_LABELSMOOTH 'off' -> False (booleans are booleans)",
        "a.yml: MODEL.IF_WITH_CENTER 'no' -> False (booleans are booleans)",
        """a.yml: MODEL.DEVICE_ID "('0')" -> dropped (CUDA_VISIBLE_DEVICES chooses the device)""",
        """a.yml: DATASETS.NAMES "('market1501')" -> 'market1501' (the text of a Python tuple)""",
        "a.yml: SOLVER.WARMUP_METHOD 'linear' -> dropped (the TransReID codebase always runs the cosine schedule, "
        "after a linear warm-up)",
        "a.yml: TEST.EVAL True -> dropped (test.py evaluates; during training SOLVER.EVAL_PERIOD does)",
        "a.yml: TEST.NECK_FEAT 'before' -> TEST.FEATURE 'class_token' (TEST.FEATURE names the test feature)",
        "a.yml: TEST.FEAT_NORM 'yes' -> True (booleans are booleans)",
    ]


def test_a_cil_file_loads(tmp_path):
    cfg = load_cfg(write(tmp_path / "a.yml", CIL_FILE))
    assert (cfg.INPUT.SELF_ID, cfg.SOLVER.MOMENTUM, cfg.CFAT.STAGES) == (True, 0.9, ["clean"])


def test_a_misspelt_section_is_unknown_and_changes_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.yml", TRANSREID_FILE + "tMODEL:\n  NAME: 'transformer'\n  DEVICE_ID: ('3')\n")
    assert errors_of("a.yml") == [
        "a.yml: tMODEL (2 keys) are not known keys (2); did you mean MODEL for tMODEL?",
    ]


def test_codebase_defaults_are_those_of_the_golden_table():
    # Changes no result, or is a path: our default stands.
    elsewhere = {
        "MODEL.DEVICE",
        "MODEL.TRANSFORMER_TYPE",
        "DATASETS.ROOT_DIR",
        "DATALOADER.NUM_WORKERS",
        "SOLVER.LOG_PERIOD",
        "SOLVER.EVAL_PERIOD",
        "SOLVER.CHECKPOINT_PERIOD",
        "OUTPUT_DIR",
    }
    for project in ("TransReID", "CIL-ReID"):
        # Ours alone, or in the code there, not among the keys: stages, MaxPool2d(2), re_ranking(..., k1=50, k2=15)
        different = {
            "CFAT.STAGES": ["clean"],
            "MODEL.STEM_POOL": 2,
            "TEST.RE_RANKING_K1": 50,
            "TEST.RE_RANKING_K2": 15,
        }
        for key, value in GOLDEN[project].items():
            ours = {name: new for name, new in expected_of(key, value).items() if OURS[name] != new}
            different |= {name: new for name, new in ours.items() if name not in elsewhere}
        assert different == TRANSREID_DEFAULTS


def test_codebase_defaults_need_a_key_of_the_codebase_and_no_base(tmp_path):
    write(tmp_path / "ours.yml", "MODEL: {IF_LABELSMOOTH: 'off'}\n")
    assert load_cfg(str(tmp_path / "ours.yml")).SOLVER.MOMENTUM == 0.0
    path = write(tmp_path / "child.yml", "_BASE_: ours.yml\nTEST: {NECK_FEAT: after}\n")
    assert load_cfg(path).TEST.FEATURE == "neck"
    assert load_cfg(path).SOLVER.MOMENTUM == 0.0


def test_a_file_of_ours_over_one_of_the_codebase(tmp_path):
    write(tmp_path / "codebase.yml", TRANSREID_FILE)
    cfg = load_cfg(write(tmp_path / "ours.yml", "_BASE_: codebase.yml\nSOLVER: {MARGIN: 0.5}\n"))
    assert (cfg.SOLVER.MOMENTUM, cfg.SOLVER.MARGIN, cfg.CFAT.STAGES) == (0.9, 0.5, ["clean"])


@pytest.mark.parametrize(
    ("opts", "expected"),
    [
        (["TEST.NECK_FEAT", "before"], {"TEST.FEATURE": "class_token"}),
        (["TEST.NECK_FEAT", "'after'"], {"TEST.FEATURE": "neck"}),
        (["MODEL.DEVICE_ID", "('0')"], {}),
        (["SOLVER.SEED", "7"], {"SEED": 7}),
        (["SOLVER.SEED", "7", "SEED", "7"], {"SEED": 7}),
        (["MODEL.COS_LAYER", "False"], {}),
        (["MODEL.COS_LAYER", "True", "MODEL.ID_LOSS_TYPE", "softmax"], {"MODEL.ID_LOSS_TYPE": "arcface"}),
        (["MODEL.WRTRIPLET", "yes"], {"MODEL.METRIC_LOSS_TYPE": "wrtriplet"}),
        (["MODEL.IF_LABELSMOOTH", "on"], {"MODEL.IF_LABELSMOOTH": True}),
        (["INPUT.SIZE_TRAIN", "(384, 128)"], {"INPUT.SIZE_TRAIN": [384, 128]}),
        (["INPUT.MIXING_COEFF", "[1.0, 1.0]"], {}),
        (["OUTPUT_DIR", ""], {}),
        (["MODEL.PRETRAIN_PATH", ""], {"MODEL.PRETRAIN_PATH": ""}),
    ],
)
def test_the_command_line_knows_the_keys_without_the_codebase_defaults(opts, expected):
    assert flat(load_cfg(None, opts)) == OURS | expected


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("MODEL.NECK", "no", "found 'no', expected 'bnneck': a ResNet without its neck is not built here"),
        ("MODEL.PRETRAIN_CHOICE", "vilt", "found 'vilt', expected 'no' or 'self' or 'finetune' or 'imagenet': MODEL."),
        ("INPUT.MEAN_FEAT", "True", "found 'True', expected False: that option of CIL-ReID is not built here"),
        ("MODEL.LINEAR_BLOCK", "True", "found 'True', expected False: that option of CIL-ReID is not built here"),
        ("SOLVER.WARMUP_METHOD", "constant", "found 'constant', expected 'cosine' or 'linear': "),
        ("TEST.NECK_FEAT", "befor", "found 'befor', expected 'after' or 'before': TEST.FEATURE names the test feature"),
        ("MODEL.COS_LAYER", "maybe", "found 'maybe', expected True or False: "),
    ],
)
def test_an_option_that_is_not_built_is_an_error(key, value, error):
    (found,) = errors_of(None, [key, value])
    assert found.startswith(f"command line: {key}: {error}")


def test_both_names_of_one_key_must_agree():
    assert errors_of(None, ["SOLVER.SEED", "1", "SEED", "2"]) == [
        "command line: SOLVER.SEED means SEED '1' and SEED is given as '2'; leave one of them out"
    ]


def test_a_typo_in_a_file_of_the_codebase_is_found(tmp_path):
    path = write(tmp_path / "a.yml", TRANSREID_FILE.replace("RE_ARRANGE", "RE_ARANGE"))
    with pytest.raises(ConfigError, match=r"MODEL\.RE_ARANGE is not a known key; did you mean MODEL\.RE_ARRANGE\?"):
        load_cfg(path)


RESNET_FILE = (
    CIL_FILE.replace("NAME: 'transformer'", "NAME: 'resnet50'")
    .replace("TRANSFORMER_TYPE: 'vit_base_patch16_224_TransReID'", "TRANSFORMER_TYPE: ''\n  GEM_POOL: True")
    .replace("STRIDE_SIZE: [12, 12]", "STRIDE_SIZE: [16, 16]")
)


def test_a_resnet_of_the_codebase_ignores_keys_of_transformers(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.yml", RESNET_FILE)
    cfg = load_cfg("a.yml")
    assert (cfg.MODEL.NAME, cfg.MODEL.JPM, cfg.MODEL.GEM_POOL) == ("resnet50", False, True)
    lines = [line for line in messages(caplog, logging.WARNING) if "ignores" in line]
    assert lines == [
        "a.yml: MODEL.STRIDE_SIZE [16, 16], MODEL.SIE_CAMERA True, MODEL.SIE_COE 3.0, MODEL.JPM True, MODEL.RE_ARRANGE "
        "True: keys of a vision transformer, which the TransReID codebase's ResNet ignores, as this one does"
    ]
    assert not any("nothing in this run" in record.message for record in caplog.records)
    assert make_model(cfg, num_classes=2, num_cameras=2, num_views=1)


def test_only_files_of_the_codebase_ignore_them(tmp_path):
    assert load_cfg(write(tmp_path / "a.yml", RESNET_FILE), ["MODEL.NAME", "transformer"]).MODEL.JPM
    assert load_cfg(write(tmp_path / "ours.yml", "MODEL: {NAME: resnet50, JPM: True}\n")).MODEL.JPM
    assert load_cfg(str(tmp_path / "a.yml"), ["MODEL.JPM", "True"]).MODEL.JPM


@pytest.mark.parametrize(
    ("given", "opts", "expected", "num_lines"),
    [
        ("TEST: {RE_RANKING: True, NECK_FEAT: before}", [], (50, 15), 1),
        ("TEST: {RE_RANKING: 'no', NECK_FEAT: before}", ["TEST.RE_RANKING", "True"], (50, 15), 1),
        ("TEST: {RE_RANKING: True, NECK_FEAT: before, RE_RANKING_K1: 20, RE_RANKING_K2: 6}", [], (20, 6), 0),
        ("TEST: {RE_RANKING: True, NECK_FEAT: before}", ["TEST.RE_RANKING_K1", "30"], (30, 15), 0),
        ("TEST: {RE_RANKING: True}", [], (20, 6), 1),
        ("TEST: {NECK_FEAT: before}", [], (50, 15), 0),
    ],
)
def test_re_ranking_of_a_file_of_the_codebase(given, opts, expected, num_lines, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        test = load_cfg(write(tmp_path / "a.yml", given), opts).TEST
    assert expected == (test.RE_RANKING_K1, test.RE_RANKING_K2)
    lines = [record.message for record in caplog.records if record.message.startswith("TEST.RE_RANKING: ")]
    assert len(lines) == num_lines
    assert all(f"K1 {expected[0]} and K2 {expected[1]}, which are not given" in line for line in lines)


@pytest.mark.parametrize(
    ("given", "opts", "expected"),
    [
        ("{PRETRAIN_CHOICE: self}", [], ""),
        ("{PRETRAIN_CHOICE: self, PRETRAIN_PATH: a.pth}", [], "a.pth"),
        ("{PRETRAIN_CHOICE: self, PRETRAIN_PATH: ''}", [], ""),
        ("{PRETRAIN_CHOICE: self}", ["MODEL.PRETRAIN_PATH", "b.pth"], "b.pth"),
        ("{PRETRAIN_CHOICE: self}", ["TEST.WEIGHT", "b.pth"], ""),
        ("{PRETRAIN_CHOICE: finetune, PRETRAIN_PATH: a.pth}", [], "a.pth"),
        ("{PRETRAIN_CHOICE: 'no', PRETRAIN_PATH: a.pth}", [], ""),
        ("{PRETRAIN_CHOICE: imagenet, PRETRAIN_PATH: a.pth}", [], "a.pth"),
    ],
)
def test_pretrain_choice_says_whether_the_path_is_read(given, opts, expected, tmp_path):
    assert expected == load_cfg(write(tmp_path / "a.yml", f"MODEL: {given}\n"), opts).MODEL.PRETRAIN_PATH


@pytest.mark.parametrize(
    ("opts", "expected", "line"),
    [
        (
            ["DATASETS.CHECK_PICTURES", "False"],
            {"DATASETS.CHECK_IMAGES": False},
            "command line: DATASETS.CHECK_PICTURES 'False' -> DATASETS.CHECK_IMAGES False (an earlier name)",
        ),
        (["DATASETS.CHECK_PICTURES", "no"], {"DATASETS.CHECK_IMAGES": False}, None),
        (
            ["SOLVER.ACCUMULATE", "4"],
            {"SOLVER.GRAD_CHECKPOINT": True},
            "command line: SOLVER.ACCUMULATE '4' -> SOLVER.GRAD_CHECKPOINT True (blocks recomputed in backward save "
            "the memory that parts of a batch saved)",
        ),
        (["SOLVER.ACCUMULATE", "1"], {}, None),
        (["SOLVER.ACCUMULATE", "4", "SOLVER.GRAD_CHECKPOINT", "True"], {"SOLVER.GRAD_CHECKPOINT": True}, None),
    ],
)
def test_keys_of_earlier_versions(opts, expected, line, caplog):
    with caplog.at_level(logging.INFO):
        assert flat(load_cfg(None, opts)) == OURS | expected
    (found,) = messages(caplog, logging.INFO)
    assert line in (None, found)


def test_wrong_values_of_earlier_keys_are_errors_of_the_new_ones():
    assert errors_of(None, ["SOLVER.ACCUMULATE", "0"]) == [
        "command line: SOLVER.GRAD_CHECKPOINT: found '0', expected True or False"
    ]
    assert errors_of(None, ["SOLVER.ACCUMULATE", "2", "SOLVER.GRAD_CHECKPOINT", "False"]) == [
        "command line: SOLVER.ACCUMULATE means SOLVER.GRAD_CHECKPOINT True and SOLVER.GRAD_CHECKPOINT is given as "
        "False; leave one of them out"
    ]


def test_the_config_file_of_an_earlier_run_loads(caplog):
    with caplog.at_level(logging.INFO):
        cfg = load_cfg(str(GOLDEN_DIR / "earlier_config.yml"))
    new = load_cfg(str(ROOT / "configs/Market/vit_transreid.yml"))
    changed = {"SOLVER.GRAD_CHECKPOINT": True, "DATASETS.CHECK_IMAGES": False, "OUTPUT_DIR": "logs/earlier"}
    assert flat(cfg) == flat(new) | changed
    # Not taken for a file of the TransReID codebase, whose defaults would apply.
    assert messages(caplog, logging.WARNING) == []
    assert len(messages(caplog, logging.INFO)) == 2
