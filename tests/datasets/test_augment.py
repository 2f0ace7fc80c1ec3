"""Random erasing, its soft and self variants, and AugMix."""

import io
import random

import albumentations as A
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import AugMix

from corruption import corrupt
from datasets.augment import augmix, make_erasing
from datasets.synthetic.render import Shot, render_image
from datasets.transforms import TrainTransform
from utils.preprocessing import to_tensor

SIZE = (128, 64)
IMAGE = np.asarray(Image.open(io.BytesIO(render_image(1, Shot(pid=1, camera=0, index=0)))))
CORRUPTED = corrupt(IMAGE, "fog", 3, np.random.default_rng(0))
ALWAYS_OTHER, NEVER_OTHER = (1e7, 1.0), (1.0, 1e7)  # m is 1, or 0, to within what a pixel can show


def erase(erasing_type, seed, coefficients=(1.0, 1.0), prob=1.0):
    """Both views, erased as one pair, and what was sampled for them ({} where nothing was erased)."""
    erasing = make_erasing(erasing_type, prob, coefficients)
    compose = A.Compose([erasing], additional_targets={"corrupted": "image"})
    compose.set_random_seed(seed)
    views = compose(image=IMAGE, corrupted=CORRUPTED)
    return views["image"], views["corrupted"], erasing.params


def erase_by_loops(erasing_type, view, sampled):
    ((left, top, right, bottom),) = sampled["holes"].tolist()
    source_top, source_left = sampled["source"]
    noise = np.random.default_rng(sampled["seed"]).integers(0, 256, (bottom - top, right - left, 3), dtype=np.uint8)
    result = view.copy()
    for row, column, channel in np.ndindex(bottom - top, right - left, 3):
        other = noise[row, column, channel]
        if erasing_type == "self":
            other = view[source_top + row, source_left + column, channel]
        own = view[top + row, left + column, channel]
        result[top + row, left + column, channel] = round((1 - sampled["m"]) * int(own) + sampled["m"] * int(other))
    return result


@pytest.mark.parametrize("erasing_type", ["soft", "self"])
def test_both_views_against_a_plain_loop(erasing_type):
    for seed in range(12):
        image, corrupted, sampled = erase(erasing_type, seed)
        assert image.dtype == np.uint8
        assert (image == erase_by_loops(erasing_type, IMAGE, sampled)).all()
        assert (corrupted == erase_by_loops(erasing_type, CORRUPTED, sampled)).all()


@pytest.mark.parametrize("erasing_type", ["soft", "self"])
def test_distribution_of_the_samples(erasing_type):
    samples = [erase(erasing_type, seed, (2.0, 6.0))[2] for seed in range(400)]
    ms = np.array([sampled["m"] for sampled in samples])
    assert ms.mean() == pytest.approx(2 / 8, abs=0.02)
    assert ms.std() == pytest.approx(np.sqrt(2 * 6 / (8**2 * 9)), abs=0.02)
    left, top, right, bottom = np.concatenate([sampled["holes"] for sampled in samples]).T
    shares = (right - left) * (bottom - top) / (SIZE[0] * SIZE[1])
    assert 0.018 < shares.min() < 0.05
    assert 0.1 < shares.max() < 0.35
    source_top, source_left = np.array([sampled["source"] for sampled in samples]).T
    assert min(source_top.min(), source_left.min()) == 0
    assert (source_top + bottom - top <= SIZE[0]).all()
    assert (source_left + right - left <= SIZE[1]).all()
    assert np.mean((source_top == top) & (source_left == left)) < 0.05
    assert abs(np.corrcoef(source_top / (SIZE[0] - bottom + top), ms)[0, 1]) < 0.15


@pytest.mark.parametrize("seed", range(5))
def test_soft_with_all_noise_is_normal_erasing(seed):
    for soft, normal in zip(erase("soft", seed, ALWAYS_OTHER)[:2], erase("normal", seed)[:2], strict=True):
        assert (soft == normal).all()


@pytest.mark.parametrize("seed", range(5))
def test_self_with_all_of_the_other_part_copies_it(seed):
    for view, erased in zip((IMAGE, CORRUPTED), erase("self", seed, ALWAYS_OTHER)[:2], strict=True):
        sampled = erase("self", seed, ALWAYS_OTHER)[2]
        ((left, top, right, bottom),) = sampled["holes"]
        down, across = sampled["source"]
        height, width = bottom - top, right - left
        assert (erased[top:bottom, left:right] == view[down : down + height, across : across + width]).all()
        assert (erased != view).any()


@pytest.mark.parametrize("erasing_type", ["soft", "self"])
def test_nothing_of_the_other_leaves_the_image(erasing_type):
    for seed in range(5):
        image, corrupted, sampled = erase(erasing_type, seed, NEVER_OTHER)
        assert sampled
        assert (image == IMAGE).all()
        assert (corrupted == CORRUPTED).all()


@pytest.mark.parametrize("erasing_type", ["soft", "self"])
def test_probability(erasing_type):
    erased = [bool(erase(erasing_type, seed, prob=0.3)[2]) for seed in range(400)]
    assert np.mean(erased) == pytest.approx(0.3, abs=0.07)


@pytest.mark.parametrize("erasing_type", ["soft", "self"])
@pytest.mark.parametrize("paired", [True, False])
def test_pairs_in_the_training_geometry(erasing_type, paired):
    transform = TrainTransform(
        SIZE, flip_prob=0.5, padding=0, erasing_prob=1.0, erasing_type=erasing_type, paired=paired
    )
    pairs = [transform(IMAGE, IMAGE.copy(), np.random.default_rng(seed)) for seed in range(10)]
    assert [torch.equal(*pair) for pair in pairs] == [paired] * 10
    for seed, pair in enumerate(pairs):
        again = transform(IMAGE, IMAGE.copy(), np.random.default_rng(seed))
        assert torch.equal(torch.stack(pair), torch.stack(again))
    assert len({clean.numpy().tobytes() for clean, _ in pairs}) == 10


def test_normal_erasing_is_albumentations_own():
    transform = TrainTransform(SIZE, flip_prob=0.0, padding=0, erasing_prob=1.0, mixing_coeff=(3.0, 1.0))
    before = [A.HorizontalFlip(p=0.0), A.Pad(padding=0, p=0.0), A.RandomCrop(*SIZE)]  # they use the RNG, too
    published = A.Compose([*before, A.Erasing(scale=(0.02, 1 / 3), ratio=(0.3, 1 / 0.3), fill="random", p=1.0)])
    for seed in range(5):
        seed_of_geometry = int(np.random.default_rng(seed).integers(2**32, size=2)[0])
        published.set_random_state(np.random.default_rng(seed_of_geometry), random.Random(seed_of_geometry))
        expected = published(image=IMAGE)["image"].transpose(2, 0, 1)
        assert (transform(IMAGE, None, np.random.default_rng(seed))[0].numpy() == expected).all()


def test_augmix_is_a_pure_function_of_image_and_generator():
    before = IMAGE.copy()
    mixed = [augmix(IMAGE, np.random.default_rng(seed)) for seed in range(10)]
    assert all(other.shape == IMAGE.shape and other.dtype == np.uint8 for other in mixed)
    torch.manual_seed(99)
    assert all((augmix(IMAGE, np.random.default_rng(seed)) == other).all() for seed, other in enumerate(mixed))
    assert (before == IMAGE).all()
    assert len({other.tobytes() for other in [IMAGE, *mixed]}) == 11
    rng = np.random.default_rng(0)
    assert (augmix(IMAGE, rng) != augmix(IMAGE, rng)).any()


@pytest.mark.parametrize("seed", range(5))
def test_augmix_is_torchvisions(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.default_rng(seed).integers(2**32)))
        reference = AugMix(severity=3, mixture_width=3, chain_depth=-1, alpha=1.0, all_ops=False)
        expected = reference(to_tensor(IMAGE)).permute(1, 2, 0)
    assert (augmix(IMAGE, np.random.default_rng(seed)) == expected.numpy()).all()


def test_augmix_and_the_number_of_threads_does_not_matter():
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append([augmix(IMAGE, np.random.default_rng(seed)) for seed in range(20)])
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(*results)


def test_augmix_leaves_the_global_rng_alone(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    state = torch.get_rng_state()
    augmix(IMAGE, np.random.default_rng(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert seeded == []
