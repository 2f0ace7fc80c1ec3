"""The table of keys that each stage reads, against what the code reads; digests; what they are of."""

import dataclasses
import os
import shutil

import pytest
import torch

from config import get_defaults, load_cfg, stage_cfg
from datasets import make_dataloader, read_training_set
from datasets.make_dataloader import _make_train_loader
from datasets.synthetic.generate import SyntheticSettings, synthesize
from loss import make_loss
from model import make_ema, make_model
from model.swin_sizes import SWIN_SIZES, SwinSize
from model.vit_sizes import CLIP_SIZES, ClipSize, ViTSize
from processor import do_train
from solver import make_optimizer, make_scheduler
from tests.config.test_load import flat
from utils.checkpoints import save_checkpoint
from utils.seeds import set_global_seeds
from utils.stage_identity import (
    ALL,
    VALUES_BEFORE_KEY,
    StageIdentity,
    initial_weights,
    make_identity,
    settings_of_stage,
)
from utils.stages import STAGES

CPU = torch.device("cpu")
TINY = {
    "MODEL.PRETRAIN_PATH": "",
    "MODEL.TRANSFORMER_TYPE": "vit_tiny_patch16_128_TransReID",
    "MODEL.DEVICE": "cpu",
    "INPUT.SIZE_TRAIN": [16, 16],
    "INPUT.SIZE_TEST": [16, 16],
    "DATASETS.CHECK_COUNTS": False,
    "DATASETS.CHECK_IMAGES": False,
    "DATALOADER.NUM_WORKERS": 0,
    "DATALOADER.NUM_INSTANCE": 2,
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.MAX_EPOCHS": 1,
    "SOLVER.OPTIMIZER_NAME": "SGD",
    "SOLVER.BASE_LR": 0.01,
}
# Configurations that between them make every row of the table true.
CASES = {
    "transformer": [],
    "jigsaw": [
        *("MODEL.JPM", "True", "MODEL.STRIDE_SIZE", "[8, 8]", "INPUT.SIZE_TRAIN", "[32, 32]"),
        *("INPUT.SIZE_TEST", "[32, 32]", "MODEL.NO_MARGIN", "False", "SOLVER.SCHEDULER", "multistep"),
        *("INPUT.ERASING_TYPE", "self", "MODEL.PRETRAIN_PATH", "nothing.pth"),
    ],
    "swin": ["MODEL.TRANSFORMER_TYPE", "swin_smallest", "MODEL.SIE_CAMERA", "False", "MODEL.REDUCE_FEAT_DIM", "True"],
    "clip": ["MODEL.TRANSFORMER_TYPE", "ViT-smallest", "CFAT.LOGITS.WEIGHT", "1.0"],
    "resnet": ["MODEL.NAME", "resnet50", "INPUT.SELF_ID", "True", "MODEL.METRIC_LOSS_TYPE", "wrtriplet"],
    "margins": [
        "MODEL.ID_LOSS_TYPE",
        "arcface",
        "MODEL.IF_WITH_CENTER",
        "True",
        "INPUT.AUGMIX",
        "True",
        "DATALOADER.SAMPLER",
        "softmax",
        "SOLVER.EMA_DECAY",
        "0.9",
    ],
    "sets": ["DATASETS.NAMES", "[market1501, 'market1501:.']", "DATALOADER.BALANCE", "sets"],
}
# Configurations of relatives' structures, for the table alone.
OF_RELATIVES = [
    *("MODEL.PART_TOKENS", "True", "MODEL.REDUCE_FEAT_DIM", "True", "MODEL.PRETRAIN_PATH", "nothing.pth"),
    *("MODEL.TRANSFORMER_TYPE", "swin_tiny_patch4_window7_224"),
]
# Read while a stage is built and trained, and of no influence on its weights: HARMLESS below proves it.
NO_WEIGHTS = {
    "CFAT.STAGE",
    "DATALOADER.NUM_WORKERS",
    "MODEL.DEVICE",
    "OUTPUT_DIR",
    "SOLVER.RESUME",
    "SOLVER.LOG_PERIOD",
    "SOLVER.EVAL_PERIOD",
    "SOLVER.EVAL_ON",
    "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.GRAD_CHECKPOINT",
    "TEST.FEATURE",
    "TEST.FEAT_NORM",
    "TEST.FLIP",
    "TEST.ATTENTION_QUERIES",
}
# In the table for what happens elsewhere: train.py seeds with it; it says what initial weights are; several processes.
READ_ELSEWHERE = {
    "MODEL.CHECKPOINT_ENTRY",
    "MODEL.PRETRAIN_SIZE",
    "MODEL.PRETRAIN_HW_RATIO",
    "SOLVER.DETERMINISTIC",
    "CFAT.CORRUPTED.INIT",
    "CFAT.STUDENT_INIT",
    "CFAT.COSINE.PATCH_WEIGHT",
    *(f"MODEL.{name}" for name in ("STEM_CONV", "POOLING", "REDUCE_FEAT_DIM", "PART_TOKENS")),
}
# Read by the stage's code, which then ignores it, since it is one of another stage.
IGNORED = {
    "clean": {"INPUT.PAIRED_GEOMETRY"},
    "bridge": {"CFAT.STUDENT_VIEWS"},
    "align": {"CFAT.FINE.PRIOR_WEIGHT"},
}
# Other values of what no stage but the named one reads, all at once.
HARMLESS = {
    "OUTPUT_DIR": "",
    "TEST.FEATURE": "neck",
    "TEST.FEAT_NORM": False,
    "TEST.FLIP": True,
    "TEST.QUERY_EXPANSION": 3,
    "TEST.IMS_PER_BATCH": 3,
    "TEST.REPEATS": 2,
    "TEST.METRIC": "cosine",
    "TEST.RE_RANKING": True,
    "TEST.PROTOCOLS": ["clean"],
    "SOLVER.LOG_PERIOD": 1,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "SOLVER.EVAL_PERIOD": 1,
    "CORRUPTION.TEST": ["fog"],
    "DATALOADER.NUM_WORKERS": 1,
    "DATALOADER.CACHE": "ram",
    "SOLVER.STEPS": [7],
    "SOLVER.GAMMA": 0.5,
    "SOLVER.MARGIN": 0.9,
    "SOLVER.GRAD_CHECKPOINT": True,
    "SOLVER.COSINE_SCALE": 9.0,
    "SOLVER.CENTER_LR": 0.1,
    "MODEL.SHIFT_NUM": 2,
    "MODEL.LAST_STRIDE": 2,
    "MODEL.CONSISTENCY_LOSS_WEIGHT": 3.0,
    "INPUT.MIXING_COEFF": [2.0, 3.0],
    "DATASETS.SPLIT.SEED": 5,
    "DATASETS.VALIDATION_SEED": 5,
    "DATASETS.FOLDER.TRAIN": "other",
    "CFAT.STAGES": ["clean", "corrupted", "bridge", "align"],
}
OF_OTHER_STAGES = {
    "clean": {
        "CORRUPTION.TRAIN": ["fog"],
        "CORRUPTION.SEVERITIES": [2],
        "CORRUPTION.CLEAN_PROB": 0.5,
        "CORRUPTION.BACKEND": "imagecorruptions",
        "INPUT.PAIRED_GEOMETRY": False,
        "CFAT.COARSE.WEIGHT": 3.0,
        "CFAT.FINE.LATENT_DIM": 4,
        "CFAT.STUDENT_VIEWS": "both",
        "CFAT.CORRUPTED.INIT": "clean",
    },
    "bridge": {
        "INPUT.SELF_ID": True,
        "CFAT.STUDENT_VIEWS": "both",
        "CFAT.COARSE.WEIGHT": 3.0,
        "CFAT.COSINE.CLASS_WEIGHT": 1.0,
        "CFAT.TEACHER_DECAY": 0.9,
        "CFAT.LOGITS.WEIGHT": 1.0,
        "CFAT.TOKENS.WEIGHT": 1.0,
        "CFAT.FINE.IDENTITY_WEIGHT": 4.0,
        "MODEL.TRIPLET_LOSS_WEIGHT": 2.0,
        "MODEL.IF_LABELSMOOTH": True,
        "MODEL.IF_WITH_CENTER": True,
        "CFAT.CLEAN.BASE_LR": 0.3,
    },
    "align": {"INPUT.SELF_ID": True, "CFAT.FINE.PRIOR_WEIGHT": 3.0, "CFAT.BRIDGE.MAX_EPOCHS": 7},
}


@pytest.fixture(scope="module", autouse=True)
def smallest_sizes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SWIN_SIZES, "swin_smallest", SwinSize(8, (1, 1, 1, 1), (1, 1, 1, 1)))
        patch.setitem(CLIP_SIZES, "ViT-smallest", ClipSize(ViTSize(8, 1, 1), 4))
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    synthesize(root / "market1501", SyntheticSettings(num_identities=4, num_cameras=2, images_per_camera=2), workers=1)
    return root


def configure(root, stage, *opts, **changes):
    settings = {**TINY, "DATASETS.ROOT_DIR": root, "OUTPUT_DIR": root / "out", **changes}
    return stage_cfg(load_cfg(opts=[*(str(part) for pair in settings.items() for part in pair), *opts]), stage)


class RecordingNode:
    """A configuration that notes which keys are read."""

    def __init__(self, node, read, prefix=""):
        self.node, self.read, self.prefix = node, read, prefix

    def __getattr__(self, name):
        value = getattr(self.node, name)
        if isinstance(value, dict):
            return RecordingNode(value, self.read, f"{self.prefix}{name}.")
        if name.isupper() or name[0].isupper():
            self.read.add(f"{self.prefix}{name}")
        return value

    def __getitem__(self, name):
        return getattr(self, name)


def build(cfg, data):
    """What trains the stage, as train.py builds it."""
    set_global_seeds(cfg.SEED, cfg.CFAT.STAGE)
    model = make_model(cfg, num_classes=data.num_classes, num_cameras=data.num_cameras, num_views=data.num_views)
    loss_fn = make_loss(cfg, num_classes=data.num_classes, feat_dim=model.embed_dim)
    optimizer = make_optimizer(cfg, model, loss_fn)
    return {"ema": make_ema(cfg, model)}, (model, loss_fn, optimizer, make_scheduler(cfg, optimizer))


@pytest.fixture(scope="module")
def read_keys(root):
    """A function (stage, case) -> the configuration, and the keys that building and training the stage read."""

    def read_of(stage, case):
        cfg = configure(root, stage, *CASES[case])
        data, read = make_dataloader(cfg), set()
        recorded = RecordingNode(cfg, read)
        _make_train_loader(recorded, data.splits, data.test_loader.read)
        build(recorded, data)
        return cfg, read

    return read_of


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("stage", ALL)
def test_the_table_has_what_the_code_reads(read_keys, stage, case):
    cfg, read = read_keys(stage, case)
    # what the training loop reads of cfg, in processor/train.py
    read |= {"SOLVER.MAX_EPOCHS", "SOLVER.AMP", "SOLVER.GRAD_CLIP", "SOLVER.GLOBAL_LOSS", "SOLVER.EMA_DECAY"}
    table = set(settings_of_stage(cfg))
    ignored = IGNORED.get(stage, set()) | (set() if "INPUT.MIXING_COEFF" in table else {"INPUT.MIXING_COEFF"})
    assert read - table - NO_WEIGHTS - ignored == set()
    assert table - read - READ_ELSEWHERE == set()


def test_every_key_is_one_of_some_stage_or_of_none_on_purpose(root):
    known = set(flat(get_defaults()))
    cases = [*CASES.values(), OF_RELATIVES]
    used = {key for stage in ALL for case in cases for key in settings_of_stage(configure(root, stage, *case))}
    other = {key for key in known - used if not key.startswith(("DATASETS.", "TEST."))}
    assert used <= known
    assert other == NO_WEIGHTS - {key for key in NO_WEIGHTS if key.startswith("TEST.")} | {
        "CFAT.STAGES",
        "UNKNOWN_KEYS",
        "UNREAD_KEYS",
        "LEFT_OUT_KEYS",
        "CORRUPTION.TEST",
        "DATALOADER.CACHE",
        "MODEL.PRETRAIN_PATH",
        *(f"CFAT.{stage.upper()}.{name}" for stage in ALL for name in ("BASE_LR", "MAX_EPOCHS", "WEIGHT")),
        *(f"CFAT.{stage.upper()}.TRIPLET_ON" for stage in ALL if stage != "bridge"),
    }


def train(cfg):
    data = make_dataloader(cfg)
    options, parts = build(cfg, data)
    do_train(cfg, data, *parts, device=CPU, **options)
    return {name: value.clone() for name, value in parts[0].state_dict().items()}


@pytest.mark.parametrize("stage", OF_OTHER_STAGES)
def test_what_is_not_in_the_table_changes_no_weight(root, tmp_path, stage):
    changes = {**HARMLESS, **OF_OTHER_STAGES[stage], "OUTPUT_DIR": tmp_path / "other"}
    cfg, other = configure(root, stage, OUTPUT_DIR=tmp_path), configure(root, stage, **changes)
    assert settings_of_stage(other) == settings_of_stage(cfg)
    before, after = train(cfg), train(other)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


# Switches that are off, and other values of what they leave unread.
OFF = {
    "INPUT.RE_PROB": 0.0,
    "MODEL.SIE_CAMERA": False,
    "MODEL.JPM": True,
    "MODEL.RE_ARRANGE": False,
    "MODEL.STRIDE_SIZE": [8, 8],
    "INPUT.SIZE_TRAIN": [32, 32],
    "INPUT.SIZE_TEST": [32, 32],
    "SOLVER.WARMUP_EPOCHS": 0,
    "SOLVER.OPTIMIZER_NAME": "Adam",
    "CFAT.COARSE.WEIGHT": 0.0,
    "TEST.FEATURE": "class_token",
}
UNREAD = {
    "INPUT.ERASING_TYPE": "soft",
    "INPUT.MIXING_COEFF": [2.0, 3.0],
    "MODEL.SIE_COE": 7.0,
    "MODEL.SHIFT_NUM": 2,
    "MODEL.SHUFFLE_GROUP": 4,
    "MODEL.PRETRAIN_SIZE": [64, 32],
    "SOLVER.WARMUP_FACTOR": 0.5,
    "SOLVER.MOMENTUM": 0.7,
    "CFAT.COARSE.TEMPERATURE": 0.1,
    "CFAT.COARSE.DETACH_WEIGHT": True,
    "CFAT.COARSE.EXCLUDE_SAME_IDENTITY": True,
}


@pytest.mark.parametrize("stage", ["clean", "align"])
def test_what_a_switch_leaves_unread_changes_no_weight(root, tmp_path, stage):
    of_stage = {"MODEL.CHECKPOINT_ENTRY": "ema"} if stage == "clean" else {"MODEL.JPM": False}
    cfg = configure(root, stage, **OFF | {"OUTPUT_DIR": tmp_path} | of_stage | {"MODEL.CHECKPOINT_ENTRY": ""})
    other = configure(root, stage, **OFF | UNREAD | {"OUTPUT_DIR": tmp_path / "other"} | of_stage)
    assert settings_of_stage(other) == settings_of_stage(cfg)
    before, after = train(cfg), train(other)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def test_digests():
    cfg = load_cfg(opts=["CFAT.STAGE", "align"])
    one = make_identity(cfg, {"CFAT.CLEAN.WEIGHT": "timm:name"}, {"images": 3, "sha256": "a"})
    assert len(one.digest) == 64
    assert one.digest == dataclasses.replace(one).digest == StageIdentity(**dataclasses.asdict(one)).digest
    assert one.differences(one.describe()) == {}
    changed = [
        dataclasses.replace(one, settings=one.settings | {"SEED": 2}),
        dataclasses.replace(one, data=one.data | {"sha256": "b"}),
        dataclasses.replace(one, initial={"CFAT.CLEAN.WEIGHT": "timm:other"}),
        dataclasses.replace(one, version=2),
    ]
    assert len({one.digest, *(other.digest for other in changed)}) == 5
    kinds = ["settings", "training set", "initial weights", "format"]
    assert [list(other.differences(one.describe())) for other in changed] == [[kind] for kind in kinds]


def test_keys_of_earlier_versions_that_determine_no_weight_are_not_compared():
    here = StageIdentity("clean", {"SEED": 1})
    before = StageIdentity("clean", {"SEED": 1, "SOLVER.ACCUMULATE": 4})
    assert here.differences(before.describe()) == {}


def test_checkpoints_older_than_a_key_mean_its_value_before():
    found = set()
    for stage in STAGES:
        here = make_identity(load_cfg(opts=["CFAT.STAGE", stage]), {}, {})
        older = {key: value for key, value in here.settings.items() if key not in VALUES_BEFORE_KEY}
        found |= here.settings.keys() - older.keys()
        before = dataclasses.replace(here, settings=older).describe()
        assert here.differences(before) == {}
    assert found == VALUES_BEFORE_KEY.keys()
    stem = dataclasses.replace(here, settings=here.settings | {"MODEL.STEM_CONV": True})
    assert stem.differences(before) == {"settings": ["MODEL.STEM_CONV False there, True here"]}


def test_what_is_unread_here_alone_is_no_difference():
    """As in a checkpoint of a time when the table had such a key always; the switch is compared by itself."""
    one = make_identity(load_cfg(opts=["CFAT.STAGE", "clean", "SOLVER.WARMUP_EPOCHS", "0"]), {}, {})
    older = dataclasses.replace(one, settings=one.settings | {"SOLVER.WARMUP_FACTOR": 0.5})
    assert one.differences(older.describe()) == {}
    switched = dataclasses.replace(older, settings=older.settings | {"SOLVER.WARMUP_EPOCHS": 5})
    assert one.differences(switched.describe()) == {"settings": ["SOLVER.WARMUP_EPOCHS 5 there, 0 here"]}
    of_another_stage = dataclasses.replace(one, settings=one.settings | {"CORRUPTION.TRAIN": ["all"]})
    assert list(one.differences(of_another_stage.describe())) == ["settings"]


@pytest.mark.parametrize(
    "described", [None, [], "text", {}, {"settings": 3}, {"settings": {}, "data": {}, "initial": 5, "version": "x"}]
)
def test_what_is_no_identity(described):
    with pytest.raises(ValueError, match="identity, "):
        StageIdentity("clean", {}).differences(described)


def test_initial_weights_are_compared_by_content(tmp_path):
    weights = {"model": {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1)}}
    paths = [tmp_path / f"{name}.pth" for name in "abc"]
    save_checkpoint(paths[0], weights, {"seed": 1})
    save_checkpoint(paths[1], {"model": dict(reversed(weights["model"].items()))}, {"seed": 2, "epoch": 3})
    save_checkpoint(paths[2], {"model": weights["model"] | {"b": torch.tensor(2)}}, {"seed": 1})
    tensors = [initial_weights({"CFAT.CLEAN.WEIGHT": str(path)})["CFAT.CLEAN.WEIGHT"] for path in paths]
    assert tensors[0] == tensors[1] != tensors[2]
    files = [initial_weights({"MODEL.PRETRAIN_PATH": str(path)})["MODEL.PRETRAIN_PATH"] for path in paths]
    assert len(set(files)) == 3
    assert initial_weights({"MODEL.PRETRAIN_PATH": "timm:vit"}) == {"MODEL.PRETRAIN_PATH": "timm:vit"}


def test_a_training_set_is_its_content(root, tmp_path, caplog):
    def facts(directory):
        return read_training_set(make_dataloader(configure(directory, "clean")).splits).facts

    expected = facts(root)
    assert (expected["images"], expected["identities"], expected["cameras"], expected["views"]) == (8, 2, 2, 1)
    copied = shutil.copytree(root, tmp_path / "copied", copy_function=shutil.copyfile)
    assert facts(copied) == expected  # elsewhere, with other times
    images = sorted((copied / "market1501" / "bounding_box_train").iterdir())
    training_set = read_training_set(make_dataloader(configure(copied, "clean")).splits)
    training_set.warn_of_changes()
    assert "changed on disk" not in caplog.text
    content, status = bytearray(images[0].read_bytes()), images[0].stat()
    content[-2] ^= 1
    images[0].write_bytes(content)  # as long as before, and as old
    os.utime(images[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert facts(copied)["sha256"] != expected["sha256"]
    images[1].write_bytes(images[2].read_bytes())
    training_set.warn_of_changes()
    assert f"1 training images changed on disk during training, the first is {images[1]}" in caplog.text
    test_image = next((copied / "market1501" / "query").iterdir())
    before = facts(copied)
    test_image.write_bytes(images[2].read_bytes())
    assert facts(copied) == before  # no training image
    moved = next(image for image in images if "_c1" in image.name)
    moved.rename(moved.with_name(moved.name.replace("_c1", "_c2").replace("_01.jpg", "_09.jpg")))
    assert facts(copied) != before  # another camera
