"""What is refused of files of the codebase's relatives, in few lines, and what changes nothing or may be left out."""

import logging

import pytest

from config import load_cfg
from config.defaults import SCHEMA
from config.legacy_keys import CODEBASE_KEYS
from config.structures import SWITCHES
from tests.config.test_load import errors_of, write
from tests.config.test_relatives import CLIP_FILE, SIGN, SSL_FILE, lines, load


def test_keys_that_change_nothing_are_named_in_one_line(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    text = f"""\
{SIGN}INDEX: 7
WANDB: {{PROJECT: reid, TAGS: [a]}}
MODEL: {{FRM_enable: False, FRM_scale: 0.5, PATCH_KEEP_RATE: 1.0, DROPOUT_RATE: 0}}
DATASETS: {{ROOT_TRAIN_DIR: a}}
"""
    with caplog.at_level(logging.INFO):
        found = load(tmp_path, text, ["MODEL.NAME", "transformer"])
    assert found["LEFT_OUT_KEYS"] == []
    (line,) = [record.message for record in caplog.records if "keys that change nothing here" in record.message]
    assert line.split("a.yml: ")[1] == (
        "keys that change nothing here: INDEX 7 (names of runs and logging), WANDB.PROJECT 'reid' (logging and "
        "drawing), WANDB.TAGS ['a'] (logging and drawing), MODEL.FRM_enable False (off), MODEL.FRM_scale 0.5 (a "
        "setting of MODEL.FRM_enable, which is off), MODEL.PATCH_KEEP_RATE 1.0 (off), MODEL.DROPOUT_RATE 0 (off), "
        "DATASETS.ROOT_TRAIN_DIR 'a' (directories of a data set that is not public)"
    )


def test_such_keys_are_unknown_in_a_file_of_ours(tmp_path, monkeypatch):
    assert lines(tmp_path, monkeypatch, "WANDB: True\nMODEL: {FRM_enable: False}\n") == [
        "a.yml: WANDB; MODEL: FRM_enable are not known keys (2)"
    ]


def test_a_setting_is_unknown_without_its_switch(tmp_path, monkeypatch):
    (line,) = lines(tmp_path, monkeypatch, f"{SIGN}MODEL: {{FRM_scale: 0.5}}\n")
    assert line.startswith("a.yml: MODEL.FRM_scale is not a known key")


def test_tables_of_structures_do_not_overlap_with_known_keys():
    settings = {name for switch in SWITCHES.values() for name in switch.settings}
    assert {*SWITCHES, *settings} & {*SCHEMA, *CODEBASE_KEYS} == set()
    assert set(SWITCHES) & settings == set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "MODEL: {NAME: RN50}\n",
            [
                "MODEL.NAME RN50 (CLIP's ResNet-50) is not built here, expected one of transformer, resnet50, "
                "resnet50_ibn_a, timm"
            ],
        ),
        (
            "MODEL: {NAME: resnet5}\n",
            [
                "MODEL.NAME: found 'resnet5', expected one of transformer, resnet50, resnet50_ibn_a, timm; did you "
                "mean resnet50?"
            ],
        ),
        ("MODEL: {DROPOUT_RATE: 0.1}\n", ["MODEL.DROPOUT_RATE 0.1: dropout before the classifier is not built here"]),
        (
            "MODEL: {NAME: osnet, BDB_enable: True, BATCH_DROP_RATE: 0.3, NEW: 1}\nSOLVER: {TRP_L2: True, A: 1, B: 2}\n"
            "X: 1\n",
            [
                "not built here: MODEL.BDB_enable True (batch drop block), SOLVER.TRP_L2 True (a triplet loss on "
                "normalised features), MODEL.NAME 'osnet'",
                "MODEL: NEW; SOLVER: A, B; X are not known keys (4)",
            ],
        ),
        (
            "MODEL: {TRANSFOMER_TYPE: a, NEW: 1}\nSOLVER: {MAX_EPOCH: 3}\n",
            [
                "MODEL: TRANSFOMER_TYPE, NEW; SOLVER: MAX_EPOCH are not known keys (3); did you mean "
                "MODEL.TRANSFORMER_TYPE for MODEL.TRANSFOMER_TYPE, SOLVER.MAX_EPOCHS for SOLVER.MAX_EPOCH?"
            ],
        ),
        (
            "SOLVER: {BASE_LR: fast, MAX_EPOCHS: 0}\n",
            [
                "SOLVER.BASE_LR: found 'fast', expected a number; SOLVER.MAX_EPOCHS: found 0, expected a number of at "
                "least 1"
            ],
        ),
    ],
)
def test_a_file_of_a_relative_is_refused_in_few_lines(text, expected, tmp_path, monkeypatch):
    assert lines(tmp_path, monkeypatch, SIGN + text) == [f"a.yml: {line}" for line in expected]


def test_many_unknown_keys_are_counted():
    opts = [part for index in range(100) for part in (f"MODEL.KEY{index}", "1")]
    (line,) = errors_of(None, opts)
    assert line.endswith("KEY58, KEY59 and 40 more are not known keys (100)")


def test_unknown_keys_are_left_out_where_that_is_asked_for(tmp_path, monkeypatch, caplog):
    text = (
        f"{SIGN}MODEL: {{JPM: True, NEW: 1, BDB_enable: True, BATCH_DROP_RATE: 0.3}}\nPEFT: {{R: 8}}\n"
        "SOLVER: {BASE_LR: 0.1}\n"
    )
    assert len(lines(tmp_path, monkeypatch, text)) == 2
    found = load(tmp_path, f"{text}UNKNOWN_KEYS: warn\n", ["MODEL.NAME", "transformer"])
    assert (found["SOLVER.BASE_LR"], found["MODEL.NAME"]) == (0.1, "transformer")
    assert found["LEFT_OUT_KEYS"] == ["MODEL.BATCH_DROP_RATE", "MODEL.BDB_enable", "MODEL.NEW", "PEFT.R"]
    (line,) = [record.message for record in caplog.records if "left out" in record.message]
    assert line.endswith(
        "a.yml: keys that are not known here are left out (UNKNOWN_KEYS warn), 4: MODEL: BDB_enable, BATCH_DROP_RATE, "
        "NEW; PEFT: R"
    )
    # on the command line too, and kept by a merged configuration
    cfg = load_cfg(str(tmp_path / "a.yml"), ["UNKNOWN_KEYS", "warn", "MODEL.NAME", "transformer"])
    assert found["LEFT_OUT_KEYS"] == load_cfg(write(tmp_path / "config.yml", cfg.dump())).LEFT_OUT_KEYS


def test_what_is_wrong_with_known_keys_stays_an_error(tmp_path, monkeypatch):
    text = f"{SIGN}UNKNOWN_KEYS: warn\nMODEL: {{NEW: 1, NAME: osnet}}\n"
    (line,) = lines(tmp_path, monkeypatch, text)
    assert line.startswith("a.yml: MODEL.NAME osnet is not built here")
    (line,) = lines(tmp_path, monkeypatch, "UNKNOWN_KEYS: maybe\n")
    assert line == "a.yml: UNKNOWN_KEYS: found 'maybe', expected one of error, warn"


def test_only_the_stages_of_prompts_are_refused(tmp_path, monkeypatch, caplog):
    text = CLIP_FILE.replace("STRIDE_SIZE", "I2T_LOSS_WEIGHT: 1.0, STRIDE_SIZE")
    with caplog.at_level(logging.INFO):
        assert load(tmp_path, text)["MODEL.TRANSFORMER_TYPE"] == "ViT-B-16"
    (line,) = [record.message for record in caplog.records if "keys that change nothing here" in record.message]
    assert line.endswith(
        "MODEL.I2T_LOSS_WEIGHT 1.0 (of CLIP-ReID's text prompts, which a file without SOLVER.STAGE1 does not train)"
    )
    (line,) = lines(tmp_path, monkeypatch, text.replace("STEPS", "STAGE1: {BASE_LR: 0.1}, STEPS"))
    assert "a file of CLIP-ReID (SOLVER.STAGE1.BASE_LR): its training with text prompts is not built here" in line


def test_an_unknown_section_is_named_once(tmp_path, monkeypatch):
    (line,) = lines(
        tmp_path, monkeypatch, f"{SIGN}{SSL_FILE.replace('MODEL:', 'tMODEL:')}X: {{A: 1}}\nNEW: {{A: 1, B: 2}}\n"
    )
    assert line == ("a.yml: tMODEL (6 keys); X: A; NEW (2 keys) are not known keys (9); did you mean MODEL for tMODEL?")
    keys = ", ".join(f"KEY{index}: 1" for index in range(100))
    (line,) = lines(tmp_path, monkeypatch, f"{SIGN}NEW: {{{keys}}}\nMODEL: {{{keys}}}\n")
    assert line.startswith("a.yml: NEW (100 keys); MODEL: KEY0, KEY1, ")
    assert line.endswith("KEY58 and 41 more are not known keys (200)")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("A: 1\nB: {C: 2}\n", "A; B: C is a key"),
        (f"{SIGN}tMODEL: {{NAME: transformer, JPM: True}}\n", "tMODEL: NAME, JPM is a key of a model"),
        (f"{SIGN}MODEL: {{NEW: 1}}\n", "MODEL: NEW is a key of a model"),
        (f"{SIGN}MODEL: {{NEW: 1, BDB_enable: True}}\n", "MODEL: NEW, BDB_enable is a key of a model"),
        (f"{SIGN}MODEL: {{A: 1, B: 1, C: 1, D: 1, E: 1, F: 1}}\n", "MODEL: A, B, C, D, E, ... is a key of a model"),
    ],
)
def test_a_file_without_known_keys_is_refused_even_with_a_warning(text, named, tmp_path, monkeypatch):
    assert lines(tmp_path, monkeypatch, f"UNKNOWN_KEYS: warn\n{text}") == [
        f"a.yml: none of {named} that is known here; UNKNOWN_KEYS warn would run another experiment than the file's"
    ]
    assert len(lines(tmp_path, monkeypatch, text, ["UNKNOWN_KEYS", "warn"])) == 1


def test_a_misspelt_section_beside_the_right_one_may_be_left_out(tmp_path):
    text = f"{SIGN}UNKNOWN_KEYS: warn\nMODEL: {{NAME: resnet50}}\ntMODEL: {{NAME: transformer}}\n"
    found = load(tmp_path, text)
    assert (found["MODEL.NAME"], found["LEFT_OUT_KEYS"]) == ("resnet50", ["tMODEL.NAME"])
