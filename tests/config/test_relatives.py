"""Files in the form of the codebase's relatives: their values, schedules and structures."""

import logging

import pytest

from config import get_defaults, load_cfg
from config.codebases import BOT, CLIP_REID, DMT, SSL, TRANSREID, codebase_of
from config.files import read_sources
from tests.config.test_load import errors_of, flat, write

DEFAULTS = flat(get_defaults())
# What plain files of each codebase say; a key that only the codebase has makes it one of its files.
SIGN = "TEST: {NECK_FEAT: before}\n"
SSL_FILE = """\
MODEL:
  PRETRAIN_PATH: 'weights/vit_small_ics.pth'
  PRETRAIN_HW_RATIO: 2
  NAME: 'transformer'
  DEVICE_ID: ('0')
  TRANSFORMER_TYPE: 'vit_small_patch16_224_TransReID'
  STEM_CONV: True
SOLVER: {WARMUP_EPOCHS: 20, WARMUP_METHOD: 'cosine', BASE_LR: 0.0004}
"""
BOT_FILE = """\
MODEL: {PRETRAIN_CHOICE: 'imagenet', METRIC_LOSS_TYPE: 'triplet_center', IF_WITH_CENTER: 'yes'}
DATALOADER: {SAMPLER: 'softmax_triplet', NUM_INSTANCE: 4}
SOLVER: {CLUSTER_MARGIN: 0.3, RANGE_K: 2, STEPS: [40, 70], WARMUP_ITERS: 10, WARMUP_METHOD: 'linear'}
"""
CLIP_FILE = """\
MODEL: {PRETRAIN_CHOICE: 'imagenet', NAME: 'ViT-B-16', STRIDE_SIZE: [16, 16]}
SOLVER: {STEPS: [30, 50], WARMUP_FACTOR: 0.1, WARMUP_ITERS: 10, WARMUP_METHOD: 'linear', BIAS_LR_FACTOR: 2}
DATASETS:
#   NAMES: ('market1501')
"""


def load(tmp_path, text, opts=()):
    return flat(load_cfg(write(tmp_path / "a.yml", text), opts))


def lines(tmp_path, monkeypatch, text, opts=()):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.yml", text)
    return errors_of("a.yml", opts)


@pytest.mark.parametrize(
    ("text", "codebase"),
    [
        ("MODEL: {STEM_CONV: True}\nSOLVER: {SCHEDULER: cosine}\n", None),
        (SIGN, TRANSREID),
        (f"{SIGN}SOLVER: {{WARMUP_METHOD: linear}}\n", TRANSREID),
        (f"{SIGN}SOLVER: {{WARMUP_METHOD: cosine}}\n", SSL),
        (f"{SIGN}MODEL: {{GEM_POOLING: False}}\n", SSL),
        (SSL_FILE, SSL),
        (BOT_FILE, BOT),
        (f"{SIGN}  RE_RANKING_TRACK: False\n".replace("{NECK_FEAT: before}", "\n  NECK_FEAT: before"), DMT),
        (CLIP_FILE, CLIP_REID),
    ],
)
def test_the_codebase_of_a_file(text, codebase, tmp_path):
    (source,) = read_sources(write(tmp_path / "a.yml", text), (), [])
    assert codebase_of(source.given) is codebase


def test_a_file_of_transreid_ssl(tmp_path):
    found = load(tmp_path, SSL_FILE)
    expected = {
        "MODEL.NAME": "transformer",
        "MODEL.TRANSFORMER_TYPE": "vit_small_patch16_224",
        "MODEL.STEM_CONV": True,
        "MODEL.PRETRAIN_HW_RATIO": 2,
        "MODEL.POOLING": "class_token",
        "SOLVER.SCHEDULER": "cosine",
        "SOLVER.WARMUP_FROM": "base_lr",
        "SOLVER.WARMUP_EPOCHS": 20,
        "SOLVER.BASE_LR": 0.0004,
        "SOLVER.OPTIMIZER_NAME": "Adam",
        "TEST.RE_RANKING_K1": 20,
        "TEST.RE_RANKING_K2": 6,
        "CFAT.STAGES": ["clean"],
    }
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("'cosine'", "'linear'"), {"SOLVER.SCHEDULER": "multistep", "SOLVER.WARMUP_FROM": "group_lr"}),
        (("STEM_CONV: True", "GEM_POOLING: True"), {"MODEL.POOLING": "gem", "MODEL.STEM_CONV": False}),
        (("STEM_CONV: True", "GEM_POOLING: False"), {"MODEL.POOLING": "class_token"}),
        (("STEM_CONV: True", "REDUCE_FEAT_DIM: True"), {"MODEL.REDUCE_FEAT_DIM": True, "MODEL.FEAT_DIM": 512}),
        (("vit_small_patch16_224_TransReID", "vit_tiny_patch16_224_TransReID"), {}),
        (("STEM_CONV: True", "DROPOUT_RATE: 0.0"), {}),
        # PASS: part tokens always
        (("STEM_CONV: True", "MULTI_NECK: False"), {"MODEL.PART_TOKENS": True, "MODEL.MULTI_NECK": False}),
        (("STEM_CONV: True", "FEAT_FUSION: 'mean'"), {"MODEL.PART_TOKENS": True, "MODEL.FEAT_FUSION": "mean"}),
        # SOLIDER: its code's weight
        (("vit_small_patch16_224_TransReID", "swin_tiny_patch4_window7_224"), {"MODEL.SEMANTIC_WEIGHT": 1.0}),
        (
            ("STEM_CONV: True", "TRANSFORMER_TYPE: 'swin_base_patch4_window7_224'\n  SEMANTIC_WEIGHT: 0.2"),
            {"MODEL.TRANSFORMER_TYPE": "swin_base_patch4_window7_224", "MODEL.SEMANTIC_WEIGHT": 0.2},
        ),
        # PersonViT
        (("STEM_CONV: True", "POOLING: 'None'"), {"MODEL.POOLING": "class_token", "TEST.RE_RANKING_K1": 50}),
        (("STEM_CONV: True", "POOLING: 'avg_max'"), {"MODEL.POOLING": "avg_max", "TEST.RE_RANKING_K2": 15}),
    ],
)
def test_structures_of_the_relatives_of_transreid_ssl(change, expected, tmp_path):
    text = SSL_FILE.replace(*change)
    if text.count("TRANSFORMER_TYPE") == 2:
        text = text.replace("  TRANSFORMER_TYPE: 'vit_small_patch16_224_TransReID'\n", "")
    found = load(tmp_path, text)
    assert {key: found[key] for key in expected} == expected


def test_a_small_vit_is_the_one_of_its_codebase(tmp_path):
    name = "vit_small_patch16_224_TransReID"
    assert load(tmp_path, SSL_FILE)["MODEL.TRANSFORMER_TYPE"] == "vit_small_patch16_224"
    text = f"{SIGN}MODEL: {{NAME: transformer, TRANSFORMER_TYPE: {name}}}\nSOLVER: {{WARMUP_METHOD: linear}}\n"
    assert load(tmp_path, text)["MODEL.TRANSFORMER_TYPE"] == name
    assert load(tmp_path, "SEED: 1\n", ["MODEL.TRANSFORMER_TYPE", name])["MODEL.TRANSFORMER_TYPE"] == name
    # the command line over a file speaks as that file
    assert load(tmp_path, SSL_FILE, ["MODEL.TRANSFORMER_TYPE", name])["MODEL.TRANSFORMER_TYPE"] == name.removesuffix(
        "_TransReID"
    )


def test_a_file_of_bot(tmp_path):
    found = load(tmp_path, BOT_FILE)
    expected = {
        "MODEL.NAME": "resnet50",
        "MODEL.STEM_POOL": 3,
        "MODEL.METRIC_LOSS_TYPE": "triplet",
        "MODEL.IF_WITH_CENTER": True,
        "MODEL.IF_LABELSMOOTH": True,
        "SOLVER.SCHEDULER": "multistep",
        "SOLVER.WARMUP_FROM": "group_lr",
        "SOLVER.WARMUP_EPOCHS": 10,
        "SOLVER.WARMUP_FACTOR": 1 / 3,
        "SOLVER.STEPS": [40, 70],
        "SOLVER.MAX_EPOCHS": 50,
        "SOLVER.BIAS_LR_FACTOR": 2.0,
        "SOLVER.WEIGHT_DECAY_BIAS": 0.0,
        "TEST.RE_RANKING_K1": 20,
    }
    assert {key: found[key] for key in expected} == expected


def test_a_vit_baseline_of_clip_reid(tmp_path):
    found = load(tmp_path, CLIP_FILE)
    expected = {
        "MODEL.NAME": "transformer",
        "MODEL.TRANSFORMER_TYPE": "ViT-B-16",
        "MODEL.PRETRAIN_PATH": "pretrained/ViT-B-16.pt",
        "MODEL.NO_MARGIN": False,
        "SOLVER.SCHEDULER": "multistep",
        "SOLVER.WARMUP_FROM": "group_lr",
        "SOLVER.WARMUP_EPOCHS": 10,
        "SOLVER.WARMUP_FACTOR": 0.1,
        "SOLVER.STEPS": [30, 50],
        "DATASETS.NAMES": ["market1501"],
        "TEST.RE_RANKING_K1": 50,
    }
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("MODEL.DEVICE", "gpu", {"MODEL.DEVICE": "cuda"}),
        ("MODEL.SIE_XISHU", "2.5", {"MODEL.SIE_COE": 2.5}),
        ("MODEL.METRIC_LOSS_TYPE", "center", {"MODEL.TRIPLET_LOSS_WEIGHT": 0.0, "MODEL.IF_WITH_CENTER": True}),
        ("DATALOADER.SAMPLER", "random_identity", {"DATALOADER.SAMPLER": "softmax_triplet"}),
        ("SOLVER.MARGIN", "None", {"MODEL.NO_MARGIN": True}),
        ("SOLVER.FP16_ENABLED", "True", {"SOLVER.AMP": "fp16"}),
        ("SOLVER.FP16", "False", {"SOLVER.AMP": "off"}),
        ("USE_MIXED_PRECISION", "True", {"SOLVER.AMP": "fp16"}),
        ("SOLVER.SCHEDULER_NAME", "cos", {"SOLVER.SCHEDULER": "cosine"}),
        (
            "SOLVER.SCHEDULER_NAME",
            "step",
            {"SOLVER.SCHEDULER": "multistep", "SOLVER.STEPS": [60, 90, 120], "SOLVER.WARMUP_EPOCHS": 0},
        ),
        ("TEST.FLIP_FEATS", "on", {"TEST.FLIP": True}),
        ("TEST.FLIP_FEATS", "no", {"TEST.FLIP": False}),
        ("TEST.EVAL_METRIC", "Euclidean", {"TEST.METRIC": "euclidean"}),
        ("TEST.EVAL_METRIC", "Cos", {"TEST.METRIC": "cosine"}),
        ("DATASETS.ROOT_DIR", "('')", {"DATASETS.ROOT_DIR": "data"}),
        ("DATASETS.NAMES", "('occ_duke')", {"DATASETS.NAMES": ["occ_duke"]}),
    ],
)
def test_values_and_keys_of_relatives(key, value, expected, caplog):
    with caplog.at_level(logging.INFO):
        assert flat(load_cfg(None, [key, value])) == DEFAULTS | expected
    assert sum(key in record.message and " -> " in record.message for record in caplog.records) == 1


def test_a_value_that_says_the_opposite_of_another_key_is_an_error():
    assert errors_of(None, ["MODEL.METRIC_LOSS_TYPE", "triplet_center", "MODEL.IF_WITH_CENTER", "no"]) == [
        "command line: MODEL.METRIC_LOSS_TYPE means MODEL.IF_WITH_CENTER True and MODEL.IF_WITH_CENTER is given as "
        "False; leave one of them out"
    ]


def test_a_transformer_always_has_its_neck(tmp_path, monkeypatch):
    assert load(tmp_path, "MODEL: {NAME: transformer, NECK: 'no'}\n")["MODEL.NAME"] == "transformer"
    assert lines(tmp_path, monkeypatch, "MODEL: {NAME: resnet50, NECK: 'no'}\n") == [
        "a.yml: MODEL.NECK: found 'no', expected 'bnneck': a ResNet without its neck is not built here"
    ]


@pytest.mark.parametrize(
    ("opts", "error"),
    [
        (
            ["SOLVER.FP16_ENABLED", "True", "SOLVER.FP16", "False"],
            "SOLVER.FP16_ENABLED 'True' means SOLVER.AMP 'fp16' and SOLVER.FP16 'False' means 'off'",
        ),
        (
            ["MODEL.WRTRIPLET", "True", "MODEL.METRIC_LOSS_TYPE", "triplet_center"],
            "MODEL.WRTRIPLET 'True' means MODEL.METRIC_LOSS_TYPE 'wrtriplet' and MODEL.METRIC_LOSS_TYPE "
            "'triplet_center' means 'triplet'",
        ),
        (
            ["SOLVER.WARMUP_ITERS", "10", "SOLVER.SCHEDULER_NAME", "step"],
            "SOLVER.WARMUP_ITERS '10' means SOLVER.WARMUP_EPOCHS '10' and SOLVER.SCHEDULER_NAME 'step' means 0",
        ),
    ],
)
def test_two_old_keys_that_contradict_each_other_are_one_error(opts, error):
    swapped = [*opts[2:], *opts[:2]]
    assert errors_of(None, opts) == [f"command line: {error}; leave one of them out"]
    (line,) = errors_of(None, swapped)
    assert opts[0] in line
    assert opts[2] in line


def test_two_old_keys_may_say_the_same():
    assert load_cfg(None, ["SOLVER.FP16_ENABLED", "True", "SOLVER.FP16", "on"]).SOLVER.AMP == "fp16"


@pytest.mark.parametrize(
    "first", ["SCHEDULER_NAME: cos, WARMUP_METHOD: linear", "WARMUP_METHOD: linear, SCHEDULER_NAME: cos"]
)
@pytest.mark.parametrize("codebase", ["", "MODEL: {GEM_POOLING: False}\n"])
def test_the_name_of_a_schedule_wins_over_the_warm_up(first, codebase, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        assert load(tmp_path, f"{codebase}SOLVER: {{{first}}}\n")["SOLVER.SCHEDULER"] == "cosine"
    (line,) = [record.message for record in caplog.records if "SOLVER.WARMUP_METHOD 'linear'" in record.message]
    assert line.endswith("-> dropped (SOLVER.SCHEDULER_NAME chooses the schedule where both are given)")


@pytest.mark.parametrize("method", ["linear", "cosine", None])
def test_a_file_of_dmt_runs_in_steps(method, tmp_path):
    found = load(
        tmp_path,
        f"""\
MODEL: {{NAME: resnet50, DEVICE_ID: ('0')}}
SOLVER: {{STEPS: [30, 60], GAMMA: 0.2, WARMUP_EPOCHS: 5{f", WARMUP_METHOD: '{method}'" if method else ""}}}
TEST: {{NECK_FEAT: after, RE_RANKING_TRACK: False}}
""",
    )
    expected = {
        "SOLVER.SCHEDULER": "cosine" if method == "cosine" else "multistep",
        "SOLVER.STEPS": [30, 60],
        "SOLVER.GAMMA": 0.2,
        "SOLVER.WARMUP_EPOCHS": 5,
        "SOLVER.WARMUP_FACTOR": 0.01,
        "SOLVER.WARMUP_FROM": "base_lr" if method == "cosine" else "group_lr",
        "TEST.RE_RANKING_K1": 50,
    }
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    "keys",
    [
        "NAME: transformer",
        "NAME: resnet50, TRANSFORMER_TYPE: None",
        "TRANSFORMER_TYPE: vit_base_patch16_224_TransReID",
        "SIE_CAMERA: True",
        "STRIDE_SIZE: [16, 16]",
    ],
)
def test_a_file_with_keys_of_a_transformer_is_not_of_bot(keys, tmp_path, caplog):
    text = f"MODEL: {{{keys}}}\nSOLVER: {{WARMUP_ITERS: 10, CLUSTER_MARGIN: 0.3}}\n"
    with caplog.at_level(logging.INFO):
        found = load(tmp_path, text)
    expected = {"SOLVER.SCHEDULER": "cosine", "SOLVER.WARMUP_EPOCHS": 5, "SOLVER.WARMUP_FROM": "base_lr"}
    assert {key: found[key] for key in expected} == expected
    (line,) = [record.message for record in caplog.records if "WARMUP_ITERS 10" in record.message]
    assert line.endswith("-> dropped (the schedule of that code reads SOLVER.WARMUP_EPOCHS, not this key)")


def test_the_type_of_a_transformer_implies_one(tmp_path, caplog):
    text = f"{SIGN}MODEL: {{TRANSFORMER_TYPE: deit_small_patch16_224_TransReID, SIE_CAMERA: True}}\n"
    with caplog.at_level(logging.INFO):
        found = load(tmp_path, text)
    assert (found["MODEL.NAME"], found["MODEL.SIE_CAMERA"]) == ("transformer", True)
    assert found["MODEL.TRANSFORMER_TYPE"] == "deit_small_patch16_224_TransReID"
    (line,) = [record.message for record in caplog.records if "MODEL.NAME is left out" in record.message]
    assert line.endswith("MODEL.NAME is left out -> 'transformer' (MODEL.TRANSFORMER_TYPE is given)")
    for none in ("''", "None"):
        assert load(tmp_path, f"{SIGN}MODEL: {{TRANSFORMER_TYPE: {none}}}\n")["MODEL.NAME"] == "resnet50"


@pytest.mark.parametrize(
    ("text", "expected"),
    [(SIGN, ""), (BOT_FILE, ""), (CLIP_FILE, "pretrained/ViT-B-16.pt"), ("MODEL: {GEM_POOLING: False}\n", "")],
)
def test_initial_weights_that_a_file_leaves_out_are_those_of_its_codebase(text, expected, tmp_path, caplog):
    assert load(tmp_path, text)["MODEL.PRETRAIN_PATH"] == expected
    assert any(f"MODEL.PRETRAIN_PATH {expected!r} (ours " in record.message for record in caplog.records)
    assert load(tmp_path, text, ["MODEL.PRETRAIN_PATH", "a.pth"])["MODEL.PRETRAIN_PATH"] == "a.pth"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("", ""), False),
        (("STEM_CONV: True", "POOLING: 'None'"), True),
        (("SOLVER:", "TEST: {RE_RANKING_K1: 50, RE_RANKING_K2: 15}\nSOLVER:"), True),
    ],
)
def test_re_ranking_of_personvit_is_not_told_apart(change, told, tmp_path, caplog):
    found = load(tmp_path, SSL_FILE.replace(*change))
    assert (found["TEST.RE_RANKING_K1"], found["TEST.RE_RANKING_K2"]) == ((50, 15) if told else (20, 6))
    (line,) = [record.message for record in caplog.records if "a file of TransReID-SSL, PASS," in record.message]
    assert told != line.endswith(
        "; a file of PersonViT without MODEL.POOLING is not told apart, whose code has K1 50 and K2 15"
    )


@pytest.mark.parametrize(
    ("text", "opts", "expected", "line"),
    [
        (
            "SOLVER: {WARMUP_ITERS: 5}\nDATALOADER: {SAMPLER: softmax}\n",
            [],
            (0.0, False),
            "MODEL.TRIPLET_LOSS_WEIGHT 0.0, MODEL.IF_LABELSMOOTH False (the code of BoT then trains cross-entropy "
            "alone)",
        ),
        (SIGN, [], (0.0, False), "alone)"),  # their default
        (
            f"{SIGN}MODEL: {{IF_LABELSMOOTH: 'on'}}\n",
            [],
            (0.0, True),
            "alone); given, and taken as it is here: MODEL.IF_LABELSMOOTH True",
        ),
        (
            f"{SIGN}MODEL: {{IF_LABELSMOOTH: 'on', TRIPLET_LOSS_WEIGHT: 0.5}}\n",
            [],
            (0.5, True),
            "-> no change (the code of the TransReID codebase then trains cross-entropy alone); given, and taken as it "
            "is here: MODEL.TRIPLET_LOSS_WEIGHT 0.5, MODEL.IF_LABELSMOOTH True",
        ),
        (SIGN, ["DATALOADER.SAMPLER", "softmax_triplet"], (1.0, True), ""),
        (
            f"{SIGN}DATALOADER: {{SAMPLER: softmax_triplet}}\n",
            ["DATALOADER.SAMPLER", "softmax"],
            (0.0, False),
            "alone)",
        ),
        (
            "SOLVER: {WARMUP_ITERS: 5}\nMODEL: {IF_WITH_CENTER: 'yes', METRIC_LOSS_TYPE: triplet_center}\n",
            [],
            (1.0, True),
            "",
        ),
        ("DATALOADER: {SAMPLER: softmax}\n", [], (1.0, False), ""),  # a file of ours
    ],
)
def test_the_sampler_softmax_of_a_codebase_is_plain_cross_entropy(text, opts, expected, line, tmp_path, caplog):
    found = load(tmp_path, text, opts)
    assert (found["MODEL.TRIPLET_LOSS_WEIGHT"], found["MODEL.IF_LABELSMOOTH"]) == expected
    logged = [record.message for record in caplog.records if "DATALOADER.SAMPLER softmax ->" in record.message]
    assert len(logged) == bool(line)
    assert all(found.endswith(line) for found in logged)
