"""ResNet-50 against the published code of CIL-ReID, TransReID and BoT, which no shape tells apart."""

import logging

import pytest
import torch

from config import load_cfg, stage_cfg
from model import check_stages, load_initial_weights, load_model, make_model
from tests.helpers import REPOSITORY, load_golden
from tests.model.relatives import train_step
from utils.checkpoints import save_checkpoint
from utils.errors import UserError

IMAGENET = ["INPUT.PIXEL_MEAN", "[0.485, 0.456, 0.406]", "INPUT.PIXEL_STD", "[0.229, 0.224, 0.225]"]
HALF = ["INPUT.PIXEL_MEAN", "[0.5, 0.5, 0.5]", "INPUT.PIXEL_STD", "[0.5, 0.5, 0.5]"]
# What tells the published models apart, by the names in tests/golden/resnet_published.npz.
SETTINGS = {
    "cil_gem_before": (2, 1, True, "class_token"),
    "cil_gem_after": (2, 1, True, "neck"),
    "cil_avg_before": (2, 1, False, "class_token"),
    "cil_avg_after": (2, 1, False, "neck"),
    "transreid_avg_after": (2, 1, False, "neck"),
    "bot_1_before": (3, 1, False, "class_token"),
    "bot_1_after": (3, 1, False, "neck"),
    "bot_2_after": (3, 2, False, "neck"),
    "bot_ibn_a_1_before": (3, 1, False, "class_token"),
    "bot_ibn_a_1_after": (3, 1, False, "neck"),
    "bot_ibn_a_2_before": (3, 2, False, "class_token"),
    "bot_ibn_a_2_after": (3, 2, False, "neck"),
}
IBN = ["MODEL.NAME", "resnet50_ibn_a", "MODEL.STEM_RELU", "True"]  # of the published ones, that alone has the ReLU


def seeded_weights(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights by name and shape from one seed; the published code was run with the same."""
    generator = torch.Generator().manual_seed(0)
    made = {}
    for name in sorted(state):
        value = state[name]
        if name.endswith("num_batches_tracked"):
            made[name] = torch.zeros((), dtype=torch.long)
        elif name.endswith("global_pool.p"):
            made[name] = torch.full((1,), 2.5)
        elif name.startswith("normalize."):
            made[name] = value
        elif name.endswith("running_var"):
            made[name] = torch.rand(value.shape, generator=generator) + 0.5
        elif value.ndim > 1:
            fan_in = value[0].numel()
            made[name] = torch.randn(value.shape, generator=generator) * (2 / fan_in) ** 0.5
        else:
            made[name] = torch.rand(value.shape, generator=generator) - 0.5 * (not name.endswith("weight"))
    return made


def make(pool: int, stride: int, gem: bool, feature: str, *opts: str):
    cfg = load_cfg(
        opts=[
            "MODEL.NAME",
            "resnet50",
            "MODEL.STEM_POOL",
            str(pool),
            "MODEL.LAST_STRIDE",
            str(stride),
            "MODEL.GEM_POOL",
            str(gem),
            "TEST.FEATURE",
            feature,
            "CFAT.STAGE",
            "clean",
            *opts,
        ]
    )
    model = make_model(cfg, num_classes=4, num_cameras=1, num_views=1).eval()
    model.load_state_dict(seeded_weights(model.state_dict()))
    return model


def make_images() -> torch.Tensor:
    return torch.rand(2, 3, 70, 38, generator=torch.Generator().manual_seed(1))  # odd sides after the first convolution


@pytest.mark.parametrize("name", SETTINGS)
def test_agrees_with_the_published_code(name):
    pixels = (
        ["INPUT.PIXEL_MEAN", "[.5, .5, .5]", "INPUT.PIXEL_STD", "[.5, .5, .5]"] if "transreid" in name else IMAGENET
    )
    model = make(*SETTINGS[name], *pixels, *(IBN if "ibn_a" in name else []))
    with torch.no_grad():
        features = model.extract(make_images())
    expected = torch.from_numpy(load_golden("resnet_published.npz")[name])
    assert (features - expected).abs().max() < 1e-6


def test_a_released_file_is_tested_by_its_experiment(tmp_path, caplog):
    state = make(*SETTINGS["cil_gem_before"]).state_dict()
    torch.save(state, tmp_path / "resnet50_120.pth")
    cfg = load_cfg(str(REPOSITORY / "configs/Market/resnet50.yml"))
    with torch.no_grad():
        features = load_model(cfg, str(tmp_path / "resnet50_120.pth"), num_cameras=1, num_views=1).extract(
            make_images()
        )
    expected = torch.from_numpy(load_golden("resnet_published.npz")["cil_gem_before"])
    assert (features - expected).abs().max() < 1e-6
    assert "does not tell the pooling of its stem: MODEL.STEM_POOL 2 of the configuration is used" in caplog.text


OWN = ["MODEL.NAME", "resnet50", "CFAT.STAGES", "['clean']", "MODEL.PRETRAIN_PATH", ""]


@pytest.fixture(scope="module")
def trained():
    cfg = load_cfg(opts=[*OWN, "CFAT.STAGE", "clean"])
    return make_model(cfg, num_classes=4, num_cameras=1, num_views=1).export_state()


@pytest.mark.parametrize(("recorded", "expected"), [("2", 2), (None, 3)])
def test_a_checkpoint_of_this_project_records_it(trained, tmp_path, caplog, recorded, expected):
    """One that is older than the key was trained with torchvision's pooling."""
    text = load_cfg(opts=[*OWN, "MODEL.STEM_POOL", recorded or "3"]).dump()
    text = text if recorded else "\n".join(line for line in text.splitlines() if "STEM_POOL" not in line)
    save_checkpoint(tmp_path / "clean.pth", trained, {"config": text})
    now = ["MODEL.STEM_POOL", str(5 - expected)]
    with caplog.at_level(logging.WARNING):
        loaded = load_model(load_cfg(opts=[*OWN, *now]), str(tmp_path / "clean.pth"), num_cameras=1, num_views=1)
    assert loaded.base.maxpool.kernel_size == expected
    assert f"MODEL.STEM_POOL {expected} (configured {5 - expected})" in caplog.text
    assert "does not tell" not in caplog.text
    weight = ["CFAT.CORRUPTED.INIT", "clean", "CFAT.CLEAN.WEIGHT", f"{tmp_path}/clean.pth"]
    with pytest.raises(UserError, match=f"MODEL.STEM_POOL {expected}, now {5 - expected}"):
        check_stages([stage_cfg(load_cfg(opts=[*OWN, *now, *weight]), "corrupted")])


def test_a_configuration_of_others_tells_no_pooling(trained, tmp_path, caplog):
    config = "MODEL:\n  NAME: resnet50\n  NECK: bnneck\nINPUT:\n  SIZE_TEST: [256, 128]\n"
    save_checkpoint(tmp_path / "a.pth", trained, {"config": config})
    now = load_cfg(opts=[*OWN, "MODEL.STEM_POOL", "2"])
    with caplog.at_level(logging.WARNING):
        loaded = load_model(now, str(tmp_path / "a.pth"), num_cameras=1, num_views=1)
    assert loaded.base.maxpool.kernel_size == 2
    assert "does not tell the pooling of its stem: MODEL.STEM_POOL 2 of the configuration is used" in caplog.text


@pytest.mark.parametrize(
    ("lines", "pool"),
    [
        ("SOLVER: {WARMUP_METHOD: linear}", 2),  # TransReID, CIL-ReID
        ("SOLVER: {WARMUP_METHOD: linear, WARMUP_ITERS: 10}", 3),  # BoT
        ("SOLVER: {WARMUP_METHOD: linear, CLUSTER_MARGIN: 0.3, RANGE_K: 2}", 3),
        ("SOLVER: {WARMUP_METHOD: linear, WARMUP_ITERS: 10}\nMODEL: {STEM_POOL: 2}", 2),
        ("SOLVER: {MAX_EPOCHS: 3}", 3),  # a file of this project
    ],
)
def test_a_file_of_each_codebase_means_its_own_pooling(tmp_path, lines, pool):
    (tmp_path / "a.yml").write_text(lines)
    assert pool == load_cfg(str(tmp_path / "a.yml")).MODEL.STEM_POOL


class TestIbn:
    def test_file_decides(self, tmp_path, caplog):
        state = make(*SETTINGS["bot_ibn_a_1_before"], *IBN).state_dict()
        torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "a.pth")
        cfg = load_cfg(opts=["MODEL.STEM_RELU", "True"])
        with torch.no_grad():
            features = load_model(cfg, str(tmp_path / "a.pth"), num_cameras=1, num_views=1).extract(make_images())
        expected = torch.from_numpy(load_golden("resnet_published.npz")["bot_ibn_a_1_before"])
        assert (features - expected).abs().max() < 1e-6
        assert "MODEL.NAME resnet50_ibn_a (configured transformer)" in caplog.text
        assert "ReLU" not in caplog.text
        load_model(load_cfg(), str(tmp_path / "a.pth"), num_cameras=1, num_views=1)
        assert "does not tell the ReLU of its stem: MODEL.STEM_RELU False of the configuration is used" in caplog.text

    @pytest.mark.parametrize(("name", "other"), [("resnet50", "resnet50_ibn_a"), ("resnet50_ibn_a", "resnet50")])
    def test_pretrained_weights_of_the_other_one(self, name, other, tmp_path):
        opts = ["CFAT.STAGE", "clean", "MODEL.PRETRAIN_PATH", str(tmp_path / "a.pth")]
        source, model = (
            make_model(load_cfg(opts=["MODEL.NAME", each, *opts]), num_classes=4, num_cameras=1, num_views=1)
            for each in (other, name)
        )
        torch.save(source.base.state_dict() | {"fc.weight": torch.zeros(1000, 2048)}, tmp_path / "a.pth")
        load_initial_weights(load_cfg(opts=["MODEL.NAME", other, *opts]), source)
        with pytest.raises(UserError, match=f"set MODEL.NAME to {other}, or give other weights"):
            load_initial_weights(load_cfg(opts=["MODEL.NAME", name, *opts]), model)

    def test_every_stage_trains(self):
        for stage in ("clean", "align"):
            sizes = ["INPUT.SIZE_TRAIN", "[64, 32]", "INPUT.SIZE_TEST", "[64, 32]"]
            cfg = load_cfg(opts=[*IBN, "CFAT.STAGE", stage, "TEST.FEATURE", "neck", *sizes])
            assert train_step(cfg) == []

    def test_synchronised_normalisation_leaves_instances_alone(self):
        base = torch.nn.SyncBatchNorm.convert_sync_batchnorm(make(3, 1, False, "neck", *IBN).base)
        assert type(base.layer1[0].bn1.IN) is torch.nn.InstanceNorm2d
        assert type(base.layer1[0].bn1.BN) is torch.nn.SyncBatchNorm
