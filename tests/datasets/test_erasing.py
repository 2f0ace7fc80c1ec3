import io
import random

import albumentations as A
import numpy as np
import pytest
import torch
from PIL import Image

from corruption import corrupt
from datasets.erasing import make_erasing
from datasets.synthetic.render import Shot, render_image
from datasets.transforms import TrainTransform

SIZE = (128, 64)
PICTURE = np.asarray(Image.open(io.BytesIO(render_image(1, Shot(pid=1, camera=0, index=0)))))
CORRUPTED = corrupt(PICTURE, "fog", 3, np.random.default_rng(0))
ALWAYS_OTHER, NEVER_OTHER = (1e7, 1.0), (1.0, 1e7)  # m is 1, or 0, to within what a pixel can show


def erase(erasing_type, seed, coefficients=(1.0, 1.0), prob=1.0):
    """Both views, erased as one pair, and what was drawn for them ({} where nothing was erased)."""
    erasing = make_erasing(erasing_type, prob, coefficients)
    compose = A.Compose([erasing], additional_targets={"corrupted": "image"})
    compose.set_random_seed(seed)
    views = compose(image=PICTURE, corrupted=CORRUPTED)
    return views["image"], views["corrupted"], erasing.params


def erase_by_loops(erasing_type, view, drawn):
    ((left, top, right, bottom),) = drawn["holes"].tolist()
    source_top, source_left = drawn["source"]
    noise = np.random.default_rng(drawn["seed"]).integers(0, 256, (bottom - top, right - left, 3), dtype=np.uint8)
    result = view.copy()
    for row, column, channel in np.ndindex(bottom - top, right - left, 3):
        other = noise[row, column, channel]
        if erasing_type == "self":
            other = view[source_top + row, source_left + column, channel]
        own = view[top + row, left + column, channel]
        result[top + row, left + column, channel] = round((1 - drawn["m"]) * int(own) + drawn["m"] * int(other))
    return result


@pytest.mark.parametrize("erasing_type", ["soft", "self"])
def test_both_views_against_a_plain_loop(erasing_type):
    for seed in range(12):
        image, corrupted, drawn = erase(erasing_type, seed)
        assert image.dtype == np.uint8
        assert (image == erase_by_loops(erasing_type, PICTURE, drawn)).all()
        assert (corrupted == erase_by_loops(erasing_type, CORRUPTED, drawn)).all()


@pytest.mark.parametrize("erasing_type", ["soft", "self"])
def test_what_is_drawn(erasing_type):
    draws = [erase(erasing_type, seed, (2.0, 6.0))[2] for seed in range(400)]
    ms = np.array([drawn["m"] for drawn in draws])
    assert ms.mean() == pytest.approx(2 / 8, abs=0.02)
    assert ms.std() == pytest.approx(np.sqrt(2 * 6 / (8**2 * 9)), abs=0.02)
    left, top, right, bottom = np.concatenate([drawn["holes"] for drawn in draws]).T
    shares = (right - left) * (bottom - top) / (SIZE[0] * SIZE[1])
    assert 0.018 < shares.min() < 0.05
    assert 0.1 < shares.max() < 0.35
    source_top, source_left = np.array([drawn["source"] for drawn in draws]).T
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
    for view, erased in zip((PICTURE, CORRUPTED), erase("self", seed, ALWAYS_OTHER)[:2], strict=True):
        drawn = erase("self", seed, ALWAYS_OTHER)[2]
        ((left, top, right, bottom),) = drawn["holes"]
        down, across = drawn["source"]
        height, width = bottom - top, right - left
        assert (erased[top:bottom, left:right] == view[down : down + height, across : across + width]).all()
        assert (erased != view).any()


@pytest.mark.parametrize("erasing_type", ["soft", "self"])
def test_nothing_of_the_other_leaves_the_picture(erasing_type):
    for seed in range(5):
        image, corrupted, drawn = erase(erasing_type, seed, NEVER_OTHER)
        assert drawn
        assert (image == PICTURE).all()
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
    pairs = [transform(PICTURE, PICTURE.copy(), np.random.default_rng(seed)) for seed in range(10)]
    assert [torch.equal(*pair) for pair in pairs] == [paired] * 10
    for seed, pair in enumerate(pairs):
        again = transform(PICTURE, PICTURE.copy(), np.random.default_rng(seed))
        assert torch.equal(torch.stack(pair), torch.stack(again))
    assert len({clean.numpy().tobytes() for clean, _ in pairs}) == 10


def test_normal_erasing_is_albumentations_own():
    transform = TrainTransform(SIZE, flip_prob=0.0, padding=0, erasing_prob=1.0, mixing_coeff=(3.0, 1.0))
    before = [A.HorizontalFlip(p=0.0), A.Pad(padding=0, p=0.0), A.RandomCrop(*SIZE)]  # they draw, too
    published = A.Compose([*before, A.Erasing(scale=(0.02, 1 / 3), ratio=(0.3, 1 / 0.3), fill="random", p=1.0)])
    for seed in range(5):
        drawn = int(np.random.default_rng(seed).integers(2**32, size=2)[0])
        published.set_random_state(np.random.default_rng(drawn), random.Random(drawn))
        expected = published(image=PICTURE)["image"].transpose(2, 0, 1)
        assert (transform(PICTURE, None, np.random.default_rng(seed))[0].numpy() == expected).all()
