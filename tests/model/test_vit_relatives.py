"""Vision transformers of TransReID-SSL, PASS and PersonViT: reference outputs and published names."""

import logging

import pytest
import torch

from config import load_cfg
from model import load_initial_weights, load_model, make_model, match_pretrained
from model.make_reid import make_reid
from model.vit_sizes import VIT_SIZES, ViTSize
from tests.model import relatives

FAMILIES = ("transreid_ssl", "pass", "personvit")
CASES, ARRAYS = relatives.load_cases(FAMILIES, "pretrained_tiny")
FULL_SIZE = relatives.load_full_size(FAMILIES, "full_size_vits")
# Settings that the file decides: they are left out of the configuration that a test loads it with.
IN_THE_FILE = {"STEM_CONV", "REDUCE_FEAT_DIM", "FEAT_DIM", "MULTI_NECK", "FEAT_FUSION", "JPM", "NAME"}
MARKET = {"num_cameras": 6, "num_views": 1}


def configure(case, *opts, leave_out=()):
    """The configuration that the settings of a case give."""
    settings = CASES[case]["settings"]
    given = {key: value for key, value in settings.items() if key in load_cfg().MODEL and key not in leave_out}
    given["TRANSFORMER_TYPE"] = "tiny_of_case"
    given["POOLING"] = settings.get("POOLING", "gem" if settings.get("GEM_POOLING") else "None")
    given["POOLING"] = given["POOLING"].replace("None", "class_token")
    if not leave_out:
        given["PART_TOKENS"] = case.startswith("pass")
    options = [part for key, value in given.items() for part in (f"MODEL.{key}", str(value))]
    return load_cfg(opts=relatives.options_of(CASES[case], *options, *opts))


@pytest.fixture
def size_of_case(monkeypatch):
    def register(case):
        size = ViTSize(*(CASES[case][key] for key in ("embed_dim", "depth", "heads")))
        monkeypatch.setitem(VIT_SIZES, "tiny_of_case", size)

    return register


@torch.no_grad()
def difference(model, case, name=""):
    images, camids, viewids = (
        relatives.case_tensor(CASES, ARRAYS, case, f"{part}") for part in (f"{name}input", "cam", "view")
    )
    count = len(images)
    features = model.eval().extract(images, camids[:count], viewids[:count])
    return (features - relatives.tensor(ARRAYS, case, f"{name}output")).abs().max()


@pytest.mark.parametrize("case", CASES)
def test_reference_outputs(case, size_of_case, tmp_path):
    """The configuration says nothing of what the file decides."""
    size_of_case(case)
    torch.save(relatives.case_state(CASES, ARRAYS, case), tmp_path / "model.pth")
    counts = {"num_cameras": CASES[case]["camera_num"], "num_views": CASES[case]["view_num"]}
    model = load_model(configure(case, leave_out=IN_THE_FILE), str(tmp_path / "model.pth"), **counts)
    assert difference(model, case) < 1e-5


@pytest.mark.parametrize("case", [case for case in CASES if "pretrain" in CASES[case]])
def test_reference_outputs_from_pretrained_weights(case, size_of_case, tmp_path, caplog):
    """Positions are resized to another image size."""
    caplog.set_level(logging.INFO)
    size_of_case(case)
    pretrain = CASES[case]["pretrain"]
    teacher = relatives.state_below(ARRAYS, f"{case}/pretrain/")
    student = {f"module.{name.removeprefix('module.')}": torch.zeros_like(teacher[name]) for name in teacher}
    content = {"student": student, "teacher": teacher, "epoch": 100}
    torch.save(content if pretrain["wrapping"] == "teacher" else teacher, tmp_path / "checkpoint.pth")
    size = str(pretrain["model_size"])
    cfg = configure(
        case,
        *("INPUT.SIZE_TRAIN", size, "INPUT.SIZE_TEST", size, "MODEL.PRETRAIN_PATH", str(tmp_path / "checkpoint.pth")),
        *("MODEL.PRETRAIN_HW_RATIO", str(pretrain["PRETRAIN_HW_RATIO"]), "CFAT.STAGES", "['clean']"),
        *("TEST.FEATURE", {"before": "class_token", "after": "neck"}[pretrain["neck_feat"]]),
    )
    model = make_model(cfg, num_classes=3, num_cameras=CASES[case]["camera_num"], num_views=CASES[case]["view_num"])
    load_initial_weights(cfg, model)
    assert difference(model, case, "pretrain_") < 1e-5
    assert "the weights of 'teacher" in caplog.text


def test_the_cases_are_there():
    assert {case.split("_")[0] for case in CASES} == {"transreid", "pass", "personvit"}
    assert len(FULL_SIZE) == 17


@pytest.fixture
def without_random_numbers(monkeypatch):
    """Models whose weights are whatever was in memory: to fill a large one with random numbers takes seconds."""

    def make(*args, maker, **options):
        with torch.device("meta"):
            return maker(*args, **options).to_empty(device="cpu")

    def quickly(maker):
        return lambda *args, **options: make(*args, maker=maker, **options)

    monkeypatch.setattr("model.weights.load.make_reid", quickly(make_reid))
    return quickly(make_model)


def at_full_size(file):
    """Large files take a second or two each: all but two of them are marked slow."""
    is_slow = "base" in file and file not in ("pass_vit_base_384", "transreid_ssl_pretrain_ours_vit_base_ics_teacher")
    return pytest.param(file, marks=[pytest.mark.slow] if is_slow else [])


@pytest.mark.parametrize("file", [at_full_size(file) for file in FULL_SIZE])
def test_names_and_shapes_of_published_files(file, without_random_numbers, tmp_path, caplog):
    """Fine-tuned files are tested and begin a training; pretrained ones begin a training."""
    caplog.set_level(logging.INFO)
    path, state = tmp_path / "file.pth", relatives.expanded(FULL_SIZE[file])
    pretrained = "pretrain" in file
    torch.save({"student": state, "teacher": state, "epoch": 100} if pretrained else state, path)
    size = "[384, 128]" if file.endswith("384") else "[256, 128]"
    name = "vit_base_patch16_224_TransReID" if "base" in file else "vit_small_patch16_224_TransReID"
    opts = ("INPUT.SIZE_TRAIN", size, "INPUT.SIZE_TEST", size, "MODEL.TRANSFORMER_TYPE", name)
    cfg = load_cfg(opts=["CFAT.STAGE", "clean", "MODEL.SIE_CAMERA", "False", "MODEL.PRETRAIN_PATH", str(path), *opts])
    cfg = match_pretrained(cfg, [cfg])
    found = (cfg.MODEL.STEM_CONV, cfg.MODEL.PART_TOKENS, cfg.MODEL.TRANSFORMER_TYPE)
    assert found == ("ics" in file, file.startswith("pass"), name if "base" in file else "vit_small_patch16_224")
    model = without_random_numbers(cfg, num_classes=3, **MARKET)
    load_initial_weights(cfg, model)
    count = len(model.base.state_dict())
    assert f"{count} of {count} parameters and buffers loaded" in caplog.text
    if pretrained:
        return
    caplog.clear()
    model = load_model(load_cfg(opts=[*opts, "MODEL.SIE_CAMERA", "False"]), str(path), **MARKET)
    assert "left at their initial values: normalize.mean, normalize.std" in caplog.text
    assert model.embed_dim == dict(FULL_SIZE[file])["classifier.weight"][1]
    assert dict(FULL_SIZE[file])["classifier.weight"][0] == 751
    assert model.base.embed_dim == dict(FULL_SIZE[file])["base.cls_token"][2]
