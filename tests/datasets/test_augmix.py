import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import AugMix

from datasets.augmix import augmix
from datasets.synthetic.render import Shot, render_image
from datasets.transforms import to_tensor

PICTURE = np.asarray(Image.open(io.BytesIO(render_image(1, Shot(pid=1, camera=0, index=0)))))


def test_a_pure_function_of_picture_and_generator():
    before = PICTURE.copy()
    mixed = [augmix(PICTURE, np.random.default_rng(seed)) for seed in range(10)]
    assert all(other.shape == PICTURE.shape and other.dtype == np.uint8 for other in mixed)
    torch.manual_seed(99)
    assert all((augmix(PICTURE, np.random.default_rng(seed)) == other).all() for seed, other in enumerate(mixed))
    assert (before == PICTURE).all()
    assert len({other.tobytes() for other in [PICTURE, *mixed]}) == 11
    rng = np.random.default_rng(0)
    assert (augmix(PICTURE, rng) != augmix(PICTURE, rng)).any()


@pytest.mark.parametrize("seed", range(5))
def test_it_is_torchvisions(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.default_rng(seed).integers(2**32)))
        reference = AugMix(severity=3, mixture_width=3, chain_depth=-1, alpha=1.0, all_ops=False)
        expected = reference(to_tensor(PICTURE)).permute(1, 2, 0)
    assert (augmix(PICTURE, np.random.default_rng(seed)) == expected.numpy()).all()


def test_the_number_of_threads_does_not_matter():
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append([augmix(PICTURE, np.random.default_rng(seed)) for seed in range(20)])
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(*results)


def test_torchs_generators_are_left_alone(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    state = torch.get_rng_state()
    augmix(PICTURE, np.random.default_rng(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert seeded == []
