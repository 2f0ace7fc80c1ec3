import shutil
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from config import load_cfg
from corruption import UNSEEN, corrupt
from datasets import make_dataloader
from datasets.synthetic.generate import SyntheticSettings, synthesize
from datasets.transforms import TrainTransform
from utils.errors import UserError
from utils.images import read_image
from utils.preprocessing import TestTransform
from utils.seeds import derive_generator
from utils.structures import Condition

SIZE = (64, 32)
SETTINGS = SyntheticSettings(num_identities=12, num_cameras=3, images_per_camera=2)
CORRUPTED = Condition("random")
AUGMENTED = ["INPUT.SELF_ID", "True", "INPUT.AUGMIX", "True", "INPUT.ERASING_TYPE", "self"]
MIXED = ["INPUT.AUGMIX", "True", "INPUT.ERASING_TYPE", "soft"]
NO_GEOMETRY = ["INPUT.PROB", "0", "INPUT.PADDING", "0", "INPUT.RE_PROB", "0"]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    synthesize(root / "market1501", SETTINGS, workers=1)
    return root


def make(data_root, *opts, stage="corrupted", with_train=True):
    settings = {
        "DATASETS.ROOT_DIR": data_root,
        "DATASETS.CHECK_COUNTS": False,
        "INPUT.SIZE_TRAIN": list(SIZE),
        "INPUT.SIZE_TEST": list(SIZE),
        "SOLVER.IMS_PER_BATCH": 8,
        "DATALOADER.NUM_INSTANCE": 2,
        "TEST.IMS_PER_BATCH": 5,
        "CFAT.STAGE": stage,
        "DATALOADER.NUM_WORKERS": 0,
    }
    flat = [str(part) for pair in settings.items() for part in pair]
    return make_dataloader(load_cfg(opts=[*flat, *opts]), with_train=with_train)


def collect(loader):
    batches = list(loader)
    return {key: torch.cat([batch[key] for batch in batches]) for key in batches[0] if key != "paths"}


def failure_of(loader):
    try:
        list(loader)
    except UserError as error:
        # The frames would keep the workers until the garbage collector comes, which then waits 5 s for each of them.
        traceback.clear_frames(error.__traceback__)
        return str(error)
    raise AssertionError("no UserError")


def test_bundle_and_batch(data_root):
    data = make(data_root)
    assert (data.num_classes, data.num_cameras, data.num_views) == (6, 3, 1)
    batch = next(iter(data.train))
    assert batch["images"].shape == batch["corrupted"].shape == (8, 3, *SIZE)
    assert batch["images"].dtype == torch.uint8
    assert len(batch["paths"]) == 8
    assert set(batch["pids"].tolist()) <= set(range(6))
    assert make(data_root, with_train=False).train is None
    assert "corrupted" not in next(iter(make(data_root, stage="clean").train))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("options", [[], AUGMENTED, MIXED], ids=["default", "augmented", "mixed"])
def test_the_same_images_with_any_number_of_workers(data_root, workers, options):
    alone, helped = (make(data_root, "DATALOADER.NUM_WORKERS", str(n), *options) for n in (0, workers))
    for epoch in (0, 1):
        batches = []
        for data in (alone, helped):
            data.train.batch_sampler.set_epoch(epoch)
            batches.append(collect(data.train))
        assert all(torch.equal(batches[0][key], batches[1][key]) for key in batches[0])
    first, again = (collect(data.test_loader("query", CORRUPTED, 1)) for data in (alone, helped))
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_loaders_leave_the_global_rng_alone(data_root, workers):
    data = make(data_root, "DATALOADER.NUM_WORKERS", workers, *AUGMENTED)  # dropout and the bridge use it
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    for epoch in range(2):
        data.train.batch_sampler.set_epoch(epoch)
        list(data.train)
    list(data.test_loader("query", CORRUPTED, 0))
    assert torch.equal(torch.rand(4), expected)


def test_training_views_differ_every_epoch(data_root):
    data = make(data_root, *NO_GEOMETRY)
    images = {}
    for epoch in (0, 1):
        data.train.batch_sampler.set_epoch(epoch)
        for batch in data.train:
            for path, clean, corrupted in zip(batch["paths"], batch["images"], batch["corrupted"], strict=True):
                images.setdefault(path, []).append((clean, corrupted))
    repeated = [views for views in images.values() if len(views) > 1]
    assert len(repeated) > 10
    assert all(torch.equal(views[0][0], views[1][0]) for views in repeated)  # without geometry the clean view stays
    assert np.mean([torch.equal(views[0][1], views[1][1]) for views in repeated]) < 0.1


def test_a_test_image_is_a_pure_function_of_seed_split_path_and_repeat(data_root, tmp_path):
    data = make(data_root, with_train=False)
    first = data.read_test_image("query", 3, CORRUPTED, 1)
    for _ in range(2):
        data.read_test_image("query", 0, CORRUPTED, 0)  # other repeats in between change nothing
    assert (first == data.read_test_image("query", 3, CORRUPTED, 1)).all()
    assert (first != data.read_test_image("query", 3, CORRUPTED, 2)).any()
    assert (first != make(data_root, "SEED", "77", with_train=False).read_test_image("query", 3, CORRUPTED, 1)).any()
    shutil.copytree(data_root, tmp_path / "moved")
    assert (first == make(tmp_path / "moved", with_train=False).read_test_image("query", 3, CORRUPTED, 1)).all()


def test_the_documented_seed_of_a_test_image(data_root):
    data = make(data_root, "CORRUPTION.TEST", "['fog']", "CORRUPTION.SEVERITIES", "[4]", with_train=False)
    path = Path(data.splits.gallery[2].path)
    rng = derive_generator(1234, "gallery", f"bounding_box_test/{path.name}", 5)
    rng.random(), rng.random()  # for a name and for a severity
    expected = corrupt(read_image(path), "fog", 4, rng)
    assert (data.read_test_image("gallery", 2, CORRUPTED, 5) == expected).all()
    assert (data.read_test_image("gallery", 2, Condition(), 5) == read_image(path)).all()


def test_a_truncated_image_ends_training_and_testing_with_its_name(data_root, tmp_path):
    shutil.copytree(data_root, tmp_path / "data")
    for split in ("bounding_box_train", "query"):
        victim = sorted((tmp_path / "data" / "market1501" / split).glob("*.jpg"))[0]
        victim.write_bytes(victim.read_bytes()[:500])
        for workers in ("0", "2"):
            unchecked = ["DATASETS.CHECK_IMAGES", "False", "DATALOADER.SAMPLER", "softmax"]
            data = make(tmp_path / "data", "DATALOADER.NUM_WORKERS", workers, *unchecked)
            loader = data.train if split == "bounding_box_train" else data.test_loader("query", CORRUPTED, 0)
            assert f" {victim}: cannot be read" in failure_of(loader)


def test_unknown_data_set(data_root):
    with pytest.raises(UserError, match="DATASETS.NAMES 'aic': unknown data set; known are market1501, .*synthetic"):
        make(data_root, "DATASETS.NAMES", "aic")


@pytest.mark.parametrize("erasing_type", ["soft", "self"])
def test_erasing_as_configured(data_root, erasing_type):
    options = ["INPUT.RE_PROB", "1", "INPUT.ERASING_TYPE", erasing_type, "INPUT.MIXING_COEFF"]
    intact, faint, erased = (
        collect(make(data_root, *extra).train)["images"]
        for extra in (["INPUT.RE_PROB", "0"], [*options, "[1.0, 1e7]"], [*options, "[1e7, 1.0]"])
    )
    assert torch.equal(faint, intact)
    assert (erased != intact).flatten(1).any(dim=1).float().mean() > 0.9


@pytest.mark.parametrize("options", [["INPUT.SELF_ID", "True"], AUGMENTED[:4]], ids=["plain", "augmix"])
@pytest.mark.parametrize("stage", ["clean", "corrupted"])
def test_self_id_adds_two_views_and_changes_nothing_else(data_root, stage, options):
    plain, more = (collect(make(data_root, *extra, stage=stage).train) for extra in ([], options))
    augmented = more.pop("augmented")
    assert plain.keys() == more.keys()
    assert all(torch.equal(plain[key], more[key]) for key in plain)
    assert augmented.dtype == torch.uint8
    assert augmented.shape == (len(plain["pids"]), 2, 3, *SIZE)
    for one, other in ((augmented[:, 0], augmented[:, 1]), (augmented[:, 0], plain["images"])):
        assert (one != other).flatten(1).any(dim=1).float().mean() > 0.9


def test_the_two_views_are_of_the_clean_image(data_root):
    batch = collect(make(data_root, "INPUT.SELF_ID", "True", *NO_GEOMETRY).train)
    assert torch.equal(batch["augmented"], torch.stack([batch["images"]] * 2, dim=1))
    mixed = collect(make(data_root, *AUGMENTED, *NO_GEOMETRY).train)
    assert torch.equal(mixed["images"], batch["images"])
    assert (mixed["augmented"] != batch["augmented"]).flatten(2).any(dim=2).all()


@pytest.mark.parametrize("stage", ["bridge", "align"])
def test_self_id_adds_nothing_in_the_later_stages(data_root, stage):
    plain, more = (collect(make(data_root, *extra, stage=stage).train) for extra in ([], AUGMENTED[:4]))
    assert plain.keys() == more.keys()
    assert all(torch.equal(plain[key], more[key]) for key in plain)


@pytest.mark.parametrize("stage", ["clean", "align"])
def test_augmix_alone_mixes_every_image_before_corruption(data_root, stage):
    options = [*NO_GEOMETRY, "CORRUPTION.CLEAN_PROB", "1.0"]
    plain, mixed = (collect(make(data_root, *options, *extra, stage=stage).train) for extra in ([], MIXED[:2]))
    assert (plain["images"] != mixed["images"]).flatten(1).any(dim=1).all()
    if stage == "align":  # nothing was corrupted: what is left is the mixed image itself
        assert torch.equal(mixed["corrupted"], mixed["images"])


class TestGeometry:
    # every value tells its place, so that the crop and the flip can be read off
    rows, columns = np.mgrid[:64, :32].astype(np.uint8)
    image = np.stack([columns, rows, np.full_like(rows, 9)], axis=2)

    def test_paired_views_share_it(self):
        transform = TrainTransform(SIZE, flip_prob=0.5, padding=6, erasing_prob=0.5)
        seen = set()
        for seed in range(30):
            clean, corrupted = transform(self.image, self.image.copy(), np.random.default_rng(seed))
            assert torch.equal(clean, corrupted)
            seen.add(clean.numpy().tobytes())
        assert len(seen) > 25

    def test_independent_views_do_not(self):
        transform = TrainTransform(SIZE, flip_prob=0.5, padding=6, erasing_prob=0.0, paired=False)
        pairs = [transform(self.image, self.image.copy(), np.random.default_rng(seed)) for seed in range(20)]
        assert sum(torch.equal(*pair) for pair in pairs) < 5

    def test_flip_probability_and_crop_range(self):
        transform = TrainTransform(SIZE, flip_prob=0.25, padding=3, erasing_prob=0.0)
        flips, offsets = 0, set()
        for seed in range(400):
            clean, _ = transform(self.image, None, np.random.default_rng(seed))
            row = clean[0, 32].int()
            flips += int(row[20] < row[10])
            offsets.add(int(clean[1, 32, 16]) - 32)
        assert flips / 400 == pytest.approx(0.25, abs=0.07)
        assert offsets == set(range(-3, 4))

    def test_flip_crop_and_erasing_are_sampled_apart(self):
        # every pixel says which column and row it was: red from left to right, green from top to bottom
        rows, columns = np.mgrid[100:164, 100:132].astype(np.uint8)
        image = np.stack([columns, rows, np.full_like(rows, 100)], axis=2)
        transform = TrainTransform(SIZE, flip_prob=0.5, padding=10, erasing_prob=0.5)
        seen = np.zeros((2, 2, 2), int)
        for number in range(800):
            view = transform(image, None, np.random.default_rng(number))[0].numpy().astype(int)
            kept = view[2] == 100  # neither padding nor noise, but for chance
            flipped = np.median(np.diff(view[0], axis=1)[kept[:, 1:] & kept[:, :-1]]) < 0
            down = np.median((view[1] - np.arange(64)[:, None])[kept]) > 100
            erased = ((view[2] != 100) & (view[2] != 0)).any()
            seen[int(flipped), int(down), int(erased)] += 1
        # independent halves: each of the eight about 100 times (five deviations are 47)
        assert seen.min() > 53, seen
        assert seen.max() < 147, seen

    def test_erasing_probability_and_area(self):
        transform = TrainTransform(SIZE, flip_prob=0.0, padding=0, erasing_prob=0.4)
        shares = []
        for seed in range(300):
            clean, _ = transform(self.image, None, np.random.default_rng(seed))
            shares.append(float((clean[2] != 9).float().mean()))
        shares = np.array(shares)
        assert (shares > 0).mean() == pytest.approx(0.4, abs=0.08)
        assert shares.max() < 0.37

    def test_test_transform_is_pil_bilinear(self):
        expected = np.asarray(Image.fromarray(self.image).resize((24, 48), Image.Resampling.BILINEAR))
        assert (TestTransform((48, 24))(self.image).numpy() == expected.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("condition", [CORRUPTED, Condition("unseen"), Condition("fog", 2)])
def test_the_corruption_that_each_test_image_has_is_told(data_root, condition):
    """Shown by contrast and brightness, which draw no numbers, and by the severity of a cell."""
    data = make(data_root, "CORRUPTION.TEST", "['contrast', 'brightness']", with_train=False)
    told = data.test_corruptions("query", condition, 1)
    assert len(told) == len(data.splits.query)
    assert data.test_corruptions("query", Condition(), 0) == [None] * len(told)
    if condition.corruption == "fog":
        assert set(told) == {("fog", 2)}
    elif condition == CORRUPTED:
        assert {name for name, _ in told} == {"contrast", "brightness"}
        for index, (name, severity) in list(enumerate(told))[:8]:
            clean, shown = (data.read_test_image("query", index, one, 1) for one in (Condition(), condition))
            assert (shown == corrupt(clean, name, severity, np.random.default_rng(0))).all()
    else:
        assert {name for name, _ in told} <= set(UNSEEN)
