"""FeatureExtractor: the numbers of test.py for every kind of checkpoint and of image, and one message for bad input."""

import logging
import re
import threading

import numpy as np
import pytest
import torch
from PIL import Image

import model.extractor
from config import load_cfg
from datasets.synthetic.generate import SyntheticSettings, synthesize
from model import FeatureExtractor, make_model
from test import main as run_test
from tests.helpers import REPOSITORY
from tests.model.weights.test_load_model import random_state
from utils.checkpoints import save_checkpoint
from utils.errors import UserError
from utils.image_listing import image_paths

pytestmark = pytest.mark.usefixtures("restored_logging")

SIZE = ["INPUT.SIZE_TRAIN", "[64, 32]", "INPUT.SIZE_TEST", "[64, 32]"]
TINY = "vit_tiny_patch16_128_TransReID"
SMALL = [*SIZE, "MODEL.TRANSFORMER_TYPE", "test_vit", "MODEL.PRETRAIN_PATH", ""]
# name -> what the configuration of the checkpoint says beside SMALL
KINDS = {
    "vit": ["MODEL.SIE_CAMERA", "True", "TEST.FEATURE", "patch_mean"],
    "jpm": ["MODEL.JPM", "True", "TEST.FEATURE", "neck", "TEST.FEAT_NORM", "False"],
    "pooled": ["MODEL.POOLING", "gem", "TEST.FEATURE", "class_token", "TEST.FLIP", "True", "TEST.METRIC", "cosine"],
    "resnet": ["MODEL.NAME", "resnet50", "TEST.FEATURE", "neck"],
    "timm": ["MODEL.NAME", "timm", "MODEL.TRANSFORMER_TYPE", "test_vit2", "TEST.FEATURE", "neck"],
}


def make_checkpoint(path, *opts, with_config=True):
    """A checkpoint of three cameras with random weights, as train.py saves it."""
    torch.manual_seed(0)
    cfg = load_cfg(opts=[*SMALL, "CFAT.STAGE", "clean", *opts])
    made = make_model(cfg, num_classes=4, num_cameras=3, num_views=1)
    if getattr(made.base, "sie_embed", None) is not None:
        with torch.no_grad():
            made.base.sie_embed.normal_()
    meta = {"stage": "clean", "config": cfg.dump()} if with_config else {}
    save_checkpoint(path, made.export_state(), meta, replace=True)
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A directory with data/, images/ and vit.pth."""
    root = tmp_path_factory.mktemp("extractor")
    synthesize(root / "data", SyntheticSettings(num_identities=4, num_cameras=2, images_per_camera=2), workers=1)
    (root / "images").symlink_to(root / "data" / "bounding_box_test")
    make_checkpoint(root / "vit.pth", *KINDS["vit"])
    return root


@pytest.fixture(scope="module")
def extractor(root):
    return FeatureExtractor(root / "vit.pth", device="cpu", batch_size=3)


def features_of_test(root, out, *opts):
    """The features that test.py --images writes."""
    run_test(["--images", str(root / "images"), *opts, "OUTPUT_DIR", str(out), "DATALOADER.NUM_WORKERS", "0"])
    with np.load(out / "features.npz") as arrays:
        return arrays["features"]


class TestTheNumbersOfTest:
    @pytest.mark.parametrize("kind", KINDS)
    def test_own_checkpoints(self, root, tmp_path, kind):
        path = make_checkpoint(tmp_path / "a.pth", *KINDS[kind])
        found = FeatureExtractor(path, device="cpu", batch_size=5)(root / "images")
        # test.py is told what the extractor reads from the file
        expected = features_of_test(root, tmp_path / "out", "TEST.WEIGHT", str(path), *SMALL, *KINDS[kind])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-6)

    def test_features_saved_by_a_test_on_a_data_set(self, root, tmp_path):
        path = make_checkpoint(tmp_path / "a.pth", "MODEL.SIE_CAMERA", "False")
        opts = ["DATASETS.NAMES", "market1501", "DATASETS.ROOT_DIR", str(root), "DATASETS.CHECK_COUNTS", "False"]
        (root / "market1501").symlink_to(root / "data")
        opts += ["MODEL.SIE_CAMERA", "False", "OUTPUT_DIR", str(tmp_path), "DATALOADER.NUM_WORKERS", "0"]
        opts += ["TEST.SAVE_FEATURES", "True", "TEST.PROTOCOLS", "['clean']"]
        run_test(["TEST.WEIGHT", str(path), *SMALL, *opts])
        with np.load(tmp_path / "features" / "gallery_clean.npz") as arrays:
            found = FeatureExtractor(path, device="cpu")(arrays["paths"].tolist())
            np.testing.assert_allclose(found, arrays["features"], atol=1e-6)

    def test_a_released_file_of_transreid(self, root, tmp_path):
        torch.save(random_state("TransReID market1501 deit_small"), tmp_path / "deit.pth")
        paths = image_paths(root / "images")
        (tmp_path / "images").mkdir()
        for path in paths[:2]:
            (tmp_path / "images" / path.rsplit("/", 1)[1]).symlink_to(path)
        found = FeatureExtractor(tmp_path / "deit.pth", device="cpu")(tmp_path / "images")
        expected = features_of_test(tmp_path, tmp_path / "out", "TEST.WEIGHT", str(tmp_path / "deit.pth"))
        assert found.shape == (2, 384)
        np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_a_foreign_file_is_read_by_the_defaults_or_by_its_configuration(self, root, tmp_path):
        torch.manual_seed(0)
        opts = [*SIZE, "MODEL.TRANSFORMER_TYPE", TINY, "MODEL.SIE_CAMERA", "False"]
        made = make_model(load_cfg(opts=[*opts, "CFAT.STAGE", "clean"]), num_classes=4, num_cameras=3, num_views=1)
        torch.save({f"module.{name}": value for name, value in made.state_dict().items()}, tmp_path / "foreign.pth")
        (tmp_path / "transreid.yml").write_text(
            f"MODEL:\n  NAME: transformer\n  TRANSFORMER_TYPE: {TINY}\n  PRETRAIN_PATH: ''\n"
            "INPUT:\n  SIZE_TRAIN: [64, 32]\n  SIZE_TEST: [64, 32]\nTEST:\n  NECK_FEAT: after\n  FEAT_NORM: 'yes'\n"
        )
        weight = ["TEST.WEIGHT", str(tmp_path / "foreign.pth")]
        for config, more in ((None, SIZE), (tmp_path / "transreid.yml", [])):
            found = FeatureExtractor(tmp_path / "foreign.pth", config_file=config, opts=more)
            arguments = [] if config is None else ["--config_file", str(config)]
            expected = features_of_test(root, tmp_path / f"out{len(more)}", *arguments, *weight, *more)
            np.testing.assert_allclose(found(root / "images"), expected, atol=1e-6)
        assert found.cfg.TEST.FEATURE == "neck"

    def test_the_mean_of_the_camera_vectors(self, extractor, root, caplog):
        with caplog.at_level(logging.WARNING):
            FeatureExtractor(root / "vit.pth", device="cpu")
        assert "images without cameras get the mean of the file's 3 side vectors" in caplog.text
        assert extractor.model.base.sie_embed.shape[0] == 1


class TestImages:
    def test_every_form_gives_the_same_numbers(self, root, extractor):
        paths = image_paths(root / "images")
        arrays = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
        expected = extractor(paths)
        assert expected.shape == (len(paths), extractor.feature_dim)
        np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-5)
        for images in (
            root / "images",
            str(root / "images"),
            [*paths[:3], root / "images" / paths[3].rsplit("/", 1)[1], *arrays[4:]],
            arrays,
            [Image.fromarray(array) for array in arrays],
            (path for path in paths),
            np.stack(arrays),
        ):
            np.testing.assert_allclose(extractor(images), expected, atol=1e-6)
        np.testing.assert_allclose(extractor(paths[2]), expected[2:3], atol=1e-6)
        assert extractor([]).shape == (0, extractor.feature_dim)

    def test_a_generator_is_read_batch_by_batch(self, extractor):
        given, ahead = 0, []
        buffer = np.zeros((64, 32, 3), np.uint8)  # written to again, as by a video reader

        def frames():
            nonlocal given
            for number in range(20):
                given += 1
                buffer[:] = number
                yield buffer

        parts = []
        for part in extractor.stream(frames()):
            parts.append(part)
            ahead.append(given - sum(map(len, parts)))
        assert [len(part) for part in parts] == [3] * 6 + [2]
        assert max(ahead) <= 1 + model.extractor.PREFETCHED * extractor.batch_size
        expected = extractor([np.full((64, 32, 3), number, np.uint8) for number in range(20)])
        np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-6)

    def test_threads_end_with_the_call(self, root, extractor):
        before = threading.active_count()
        extractor(root / "images")
        next(extractor.stream(root / "images"))
        with pytest.raises(UserError):
            extractor([*image_paths(root / "images"), "none.jpg"])
        assert threading.active_count() == before

    def test_half_precision(self, root, extractor):
        half = FeatureExtractor(root / "vit.pth", device="cpu", half=True)
        found, expected = half(root / "images"), extractor(root / "images")
        assert found.dtype == np.float32
        difference = np.abs(found - expected).max()
        assert 1e-6 < difference < 0.02

    def test_errors_name_the_image(self, root, extractor, tmp_path):
        paths = image_paths(root / "images")
        (tmp_path / "text.jpg").write_text("no image")
        for images, message in (
            ([*paths, tmp_path / "text.jpg"], r"image .*text\.jpg: cannot be read"),
            ("nowhere.jpg", r"image nowhere\.jpg: cannot be read"),
            ([np.zeros((4, 4, 3))], "image 0: found an array .* of float64"),
            (tmp_path / "empty", "empty: no image below it"),
        ):
            (tmp_path / "empty").mkdir(exist_ok=True)
            with pytest.raises(UserError, match=message):
                extractor(images)


class TestRank:
    def test_the_definition(self, root, extractor, tmp_path):
        paths, features = image_paths(root / "images"), extractor(root / "images")
        distances = np.linalg.norm(features[:2, None].astype(np.float64) - features, axis=2)
        order = np.argsort(distances, axis=1, kind="stable")[:, :4]
        np.save(tmp_path / "gallery.npy", features)
        for query, gallery in (
            (paths[:2], root / "images"),
            (features[:2], features),
            (features[:2].astype(np.float64), tmp_path / "gallery.npy"),
            (list(features[:2]), torch.from_numpy(features)),
            ([torch.from_numpy(feature) for feature in features[:2]], list(features)),
        ):
            found = extractor.rank(query, gallery, k=4)
            np.testing.assert_allclose(found.distances, np.take_along_axis(distances, order, axis=1), atol=2e-6)
            assert (found.indices[:, 0] == [0, 1]).all()
        indices, distances = extractor.rank(paths[3], paths, k=1)
        assert (indices.tolist(), distances.dtype) == ([[3]], np.float32)
        assert extractor.rank(features[3], features, k=1).indices.tolist() == [[3]]

    def test_without_k(self, extractor):
        features = np.random.default_rng(0).random((12, 4), dtype=np.float32)
        assert extractor.rank(features, features).indices.shape == (12, 10)
        assert extractor.rank(features, features[:7]).indices.shape == (12, 7)

    def test_k_larger_than_the_gallery(self, root, extractor):
        paths = image_paths(root / "images")
        with pytest.raises(UserError, match="k is 4; expected a whole number from 1 to 3, the size of the gallery"):
            extractor.rank(paths[0], paths[:3], k=4)


class TestArguments:
    def test_wrong_ones_end_in_one_message(self, root, tmp_path):
        (tmp_path / "text.pth").write_text("no checkpoint")
        torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "backbone.pth")
        for weight, options, message in (
            (tmp_path / "text.pth", {}, "checkpoint .*text.pth: "),
            (tmp_path / "backbone.pth", {}, "holds a bare backbone"),
            (tmp_path / "none.pth", {}, "no such file"),
            (root / "vit.pth", {"device": "tpu"}, "MODEL.DEVICE: found 'tpu', expected auto, cpu, cuda"),
            (root / "vit.pth", {"config_file": tmp_path / "none.yml"}, "none.yml: no such file"),
            (root / "vit.pth", {"opts": ["TEST.FLIPS", "True"]}, "TEST.FLIPS is not a known key"),
            (root / "vit.pth", {"opts": ["TEST.FLIP"]}, "TEST.FLIP has no value"),
            (root / "vit.pth", {"batch_size": 0}, "batch_size is 0, expected a whole number of at least 1"),
            (root / "vit.pth", {"num_workers": 0}, "num_workers is 0"),
        ):
            with pytest.raises(UserError, match=message):
                FeatureExtractor(weight, **options)

    def test_paths_of_the_machine_that_trained_are_not_read(self, root, tmp_path):
        content = torch.load(root / "vit.pth", weights_only=True)
        content["meta"]["config"] = content["meta"]["config"].replace("PRETRAIN_PATH: ''", "PRETRAIN_PATH: $UNSET/a")
        torch.save(content, tmp_path / "a.pth")
        assert FeatureExtractor(tmp_path / "a.pth", device="cpu").cfg.MODEL.PRETRAIN_PATH != "$UNSET/a"

    def test_opts_decide_over_the_file(self, root):
        assert FeatureExtractor(root / "vit.pth", opts=["TEST.FEATURE", "neck"]).model.test_feature == "neck"


def test_the_example_of_the_page(root, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "synthetic").symlink_to(root / "data")
    (tmp_path / "logs" / "demo" / "checkpoints").mkdir(parents=True)
    (tmp_path / "logs" / "demo" / "checkpoints" / "align.pth").symlink_to(root / "vit.pth")
    monkeypatch.chdir(tmp_path)
    page = (REPOSITORY / "docs" / "features.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    names = {}
    exec(example[1], names)
    queries, gallery = (len(image_paths(f"data/synthetic/{name}")) for name in ("query", "bounding_box_test"))
    assert names["features"].shape == (queries, 64)
    assert names["indices"].shape == names["distances"].shape == (queries, 5)
    assert names["indices"].max() < gallery
