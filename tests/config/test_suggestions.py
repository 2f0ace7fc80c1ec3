"""Unknown keys: the right spelling is suggested, or the error says what another project means by the key."""

import json
import re

import pytest

from config.defaults import SCHEMA
from config.legacy_keys import CODEBASE_KEYS
from config.suggestions import nearest_known, unknown_key
from tests.config.test_load import errors_of, write
from tests.helpers import GOLDEN

RELATIVES = json.loads((GOLDEN / "relatives_config_keys.json").read_text(encoding="utf-8"))
# Every spelling suggested for the keys of 619 public files; all but the first mean the suggested key.
SUGGESTED = {
    "SOLVER.FEAT_NORM": "TEST.FEAT_NORM",
    "MODEL.Transformer_TYPE": "MODEL.TRANSFORMER_TYPE",
    **{key: key.removeprefix("t") for key in RELATIVES if key.startswith("tMODEL.")},
}

FAST_REID = """\
_BASE_: Base-bagtricks.yml
MODEL:
  META_ARCHITECTURE: Baseline
  BACKBONE: {NAME: build_resnet_backbone, WITH_IBN: True}
  HEADS: {NECK_FEAT: after}
INPUT: {SIZE_TRAIN: [256, 128], REA: {ENABLED: True}}
DATALOADER: {NUM_INSTANCE: 4, SAMPLER_TRAIN: NaiveIdentitySampler}
DATASETS:
  NAMES: ("Market1501",)
  TESTS: ("Market1501",)
SOLVER: {AMP: {ENABLED: True}, OPT: Adam, MAX_EPOCH: 120}
OUTPUT_DIR: logs/market1501/bagtricks_R50
"""


def text_of(key: str) -> str:
    return unknown_key(key, nearest_known(key, SCHEMA), SCHEMA)


@pytest.fixture(scope="module")
def texts():
    """The error text for each key of relatives that is not known here."""
    return {key: text_of(key) for key in RELATIVES if key not in {**SCHEMA, **CODEBASE_KEYS}}


def test_suggestions_for_the_keys_of_relatives_are_right(texts):
    suggested = {key: found[1] for key, text in texts.items() if (found := re.search(r"did you mean (\S+)\?", text))}
    assert suggested == SUGGESTED


@pytest.mark.parametrize(
    ("key", "suggested"),
    [
        ("SOLVER.NAME", ""),
        ("seed", "SEED"),
        ("--SEED", "SEED"),
        ("MODEL.SEED", ""),
        ("SOLVER.WEIGHT", ""),
        ("MODEL.PRETRAIN_PATH_T", ""),
        ("MODEL.BATCH_DROP_RATE", ""),
        ("LOSS.MARGIN", ""),
        ("MODEL.JMP", ""),
        ("MODLE.NAME", "MODEL.NAME"),
        ("Model.Name", "MODEL.NAME"),
        ("SOLVER.STEP", "SOLVER.STEPS"),
        ("SOLVER.MAX_EPOCH", "SOLVER.MAX_EPOCHS"),
        ("OUTPUT_DIRS", "OUTPUT_DIR"),
        ("OUTPUTDIR", "OUTPUT_DIR"),
        ("TEST.OUTPUT_DIR", "OUTPUT_DIR"),
        ("IMS_PER_BATCHES", "TEST.IMS_PER_BATCH"),
        ("WARMUP_EPOCH", "SOLVER.WARMUP_EPOCHS"),
        ("CFAT.FINE.BRIDGET", "CFAT.FINE.BRIDGE_T"),
        ("CFAT.COARSE.TEMPRATURE", "CFAT.COARSE.TEMPERATURE"),
    ],
)
def test_spellings(key, suggested):
    found = re.search(r"did you mean (\S+)\?", text_of(key))
    assert (found[1] if found else "") == suggested


@pytest.mark.parametrize(
    ("key", "meaning"),
    [
        ("SMALL.JPM", "a second model beside MODEL is not built here"),
        ("SOLVER.STAGE1.BASE_LR", "it is one of CLIP-ReID: its training with text prompts is not built here"),
        ("MODEL.BACKBONE.NAME", "it is one of fast-reid: its models and keys are different"),
    ],
)
def test_keys_of_relatives_say_what_they_mean_here(key, meaning):
    assert errors_of(None, [key, "1"]) == [f"command line: {key} is not a known key: {meaning}"]


def test_meanings_name_known_keys(texts):
    meanings = [text.split(": ", 1)[1] for text in texts.values() if ": " in text]
    assert len(meanings) > 100
    assert {name for text in meanings for name in re.findall(r"\b[A-Z]+\.[A-Z_.]*[A-Z]\b", text)} - set(SCHEMA) == set()


def test_a_file_of_another_schema_gets_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.yml", FAST_REID)
    assert errors_of("a.yml", ["SOLVER.BASE_LR", "fast"]) == [
        "a.yml: a file of fast-reid (MODEL.META_ARCHITECTURE, MODEL.BACKBONE.NAME, MODEL.BACKBONE.WITH_IBN, ...): its "
        "models and keys are different; start from a file of configs/, config/defaults.py explains its keys"
    ]
    write(tmp_path / "clip.yml", "SOLVER: {STAGE1: {BASE_LR: 0.1}, STAGE2: {BASE_LR: 0.1}, SEED: x}\n")
    (line,) = errors_of("clip.yml")
    assert line.startswith("clip.yml: a file of CLIP-ReID (SOLVER.STAGE1.BASE_LR, SOLVER.STAGE2.BASE_LR): its training")
