import threading

import numpy as np
import pytest

from corruption import CORRUPTIONS, FAMILIES, corrupt
from corruption import glass as glass_module
from corruption.glass import glass_blur, shuffle_python
from corruption.rain import draw_drops, render_rain
from tests.helpers import load_golden
from utils.errors import UserError

GOLDEN = load_golden("corruptions.npz")
IMAGES = {key: GOLDEN[f"image_{key}"] for key in ("a", "b")}
# their published sources draw from generators of their own: compared in distribution below
UNSEEDED = ("impulse_noise", "rain")


def test_names_and_families():
    assert tuple(GOLDEN["names"].tolist()) == CORRUPTIONS
    assert tuple(FAMILIES) == ("noise", "blur", "weather", "digital")
    assert sorted(name for family in FAMILIES.values() for name in family) == sorted(CORRUPTIONS)


@pytest.mark.parametrize("picture", ["a", "b"])
@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in UNSEEDED])
def test_golden(name, picture):
    index = CORRUPTIONS.index(name)
    for severity in range(1, 6):
        expected = GOLDEN[f"corrupted_{picture}"][index, severity - 1].astype(int)
        found = corrupt(IMAGES[picture], name, severity, np.random.RandomState(1000 * index + severity))
        difference = np.abs(found - expected)
        assert (difference == 0).mean() >= 0.98, severity
        assert (difference <= 1).mean() >= 0.995, severity


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_impulse_noise_sets_its_share_of_values_to_the_ends(severity):
    amount = [0.03, 0.06, 0.09, 0.17, 0.27][severity - 1]
    image = np.full((64, 48, 3), 128, np.uint8)
    drawn = np.stack([corrupt(image, "impulse_noise", severity, np.random.default_rng(s)) for s in range(100)])
    assert set(np.unique(drawn)) == {0, 128, 255}
    spread = (amount * (1 - amount) / drawn.size) ** 0.5
    assert (drawn != 128).mean() == pytest.approx(amount, abs=5 * spread)
    assert (drawn == 255).mean() == pytest.approx(amount / 2, abs=5 * spread)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_rain_agrees_with_the_published_one_in_distribution(severity):
    index = CORRUPTIONS.index("rain")
    for key, image in IMAGES.items():
        drawn = [corrupt(image, "rain", severity, np.random.default_rng(s)).astype(int) for s in range(200)]
        means = np.array([picture.mean() for picture in drawn])
        spreads = np.array([picture.std() for picture in drawn])
        expected = GOLDEN[f"corrupted_{key}"][index, severity - 1].astype(int)
        # one published draw must look like one of ours
        assert abs(expected.mean() - means.mean()) < 4 * means.std()
        assert abs(expected.std() - spreads.mean()) < 4 * spreads.std()


def test_rain_step_by_step():
    image = np.full((200, 100, 3), 150, np.uint8)
    drops = draw_drops(200, 100, 1, np.random.RandomState(0))
    assert drops.length == 10
    assert len(drops.starts) == 200 * 100 // 770
    assert -10 < drops.slant < 10
    no_drops = drops._replace(starts=drops.starts[:0])
    dry = render_rain(image, no_drops, 1)
    assert np.unique(dry).tolist() == [int(150 - 0.1 * 255)]
    wet = render_rain(image, drops, 1)
    assert dry.max() < wet.max() <= int(200 - 0.1 * 255)


class TestPurity:
    def test_input_is_never_changed_and_output_is_new(self):
        image = IMAGES["a"].copy()
        image.flags.writeable = False
        for name in CORRUPTIONS:
            found = corrupt(image, name, 3, np.random.default_rng(1))
            assert not np.shares_memory(found, image)
            assert found.flags.c_contiguous
            assert (found.shape, found.dtype) == (image.shape, np.uint8)
            assert (found != image).any()
        assert (image == IMAGES["a"]).all()

    def test_views_give_what_copies_give(self):
        view = IMAGES["a"][::2, ::-1]
        for name in CORRUPTIONS:
            results = [corrupt(picture, name, 2, np.random.RandomState(4)) for picture in (view, view.copy())]
            assert (results[0] == results[1]).all(), name

    @pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState])
    def test_a_pure_function_of_the_generator(self, make):
        for name in CORRUPTIONS:
            np.random.seed(len(name))  # the global generator plays no part
            first, again = (corrupt(IMAGES["b"], name, 4, make(9)) for _ in range(2))
            assert (first == again).all(), name

    def test_global_generator_is_left_alone(self):
        np.random.seed(3)
        for name in CORRUPTIONS:
            corrupt(IMAGES["b"], name, 1, np.random.default_rng(0))
        drawn = np.random.random()
        np.random.seed(3)
        assert drawn == np.random.random()

    def test_threads_do_not_mix_their_draws(self):
        def job(seed):
            return [corrupt(IMAGES["b"], name, 3, np.random.RandomState(seed)) for name in CORRUPTIONS]

        serial = [job(seed) for seed in range(4)]
        threaded = [None] * 4

        def work(seed):
            threaded[seed] = job(seed)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for one, other in zip(serial, threaded, strict=True):
            assert all((a == b).all() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (16, 200), (33, 31), (300, 20), (700, 500)])
def test_any_size(size, capsys):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for name in CORRUPTIONS:
        for severity in (1, 5):
            assert corrupt(image, name, severity, np.random.default_rng(2)).shape == image.shape, name
    assert capsys.readouterr().out == ""


class TestGlassKernel:
    @staticmethod
    def plain_shuffle(image, offsets, delta):
        """The published loop, pixel by pixel."""
        draws = iter(offsets)
        height, width = image.shape[:2]
        for h in range(height - delta, delta, -1):
            for w in range(width - delta, delta, -1):
                dx, dy = next(draws)
                image[h, w], image[h + dy, w + dx] = image[h + dy, w + dx], image[h, w]

    @pytest.mark.parametrize("delta", [1, 2, 3, 4])
    def test_both_versions_are_the_published_loop(self, delta):
        rng = np.random.default_rng(delta)
        image = rng.integers(0, 256, (40, 23, 3), dtype=np.uint8)
        offsets = rng.integers(-delta, delta, ((40 - 2 * delta) * (23 - 2 * delta), 2))
        expected = image.copy()
        self.plain_shuffle(expected, offsets, delta)
        assert (expected != image).any()
        found = image.copy()
        shuffle_python(found, offsets, delta)
        assert (found == expected).all()
        if glass_module._kernels is None:
            pytest.skip("the extension is not built: python setup.py build_ext --inplace")
        found = image.copy()
        glass_module._kernels.glass_shuffle(found, offsets, delta)
        assert (found == expected).all()

    def test_without_the_extension_the_same_numbers_and_one_warning(self, monkeypatch, caplog):
        with_extension = glass_blur(IMAGES["a"], 3, np.random.RandomState(0))
        monkeypatch.setattr(glass_module, "_kernels", None)
        glass_module._warn_not_built.cache_clear()
        for _ in range(2):
            without = glass_blur(IMAGES["a"], 3, np.random.RandomState(0))
        assert (without == with_extension).all()
        assert caplog.text.count("python setup.py build_ext --inplace") == 1


class TestErrors:
    image, rng = np.zeros((40, 40, 3), np.uint8), np.random.default_rng(0)

    def test_unknown_name_suggests_the_nearest(self):
        with pytest.raises(UserError, match=r"unknown corruption 'gausian_blur'; nearest: 'gaussian_blur'"):
            corrupt(self.image, "gausian_blur", 1, self.rng)

    @pytest.mark.parametrize("severity", [0, 6, 2.5, "3", True, None])
    def test_severity(self, severity):
        with pytest.raises(UserError, match=r"severity is .*; expected an integer from 1 to 5"):
            corrupt(self.image, "fog", severity, self.rng)

    @pytest.mark.parametrize(
        ("image", "found"),
        [
            (np.zeros((4, 4, 3)), "dtype float64"),
            (np.zeros((4, 4), np.uint8), r"shape \(4, 4\)"),
            (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\)"),
            (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
            ([[1]], "a list"),
        ],
    )
    def test_image(self, image, found):
        with pytest.raises(UserError, match=f"image (has|is) {found}; expected a NumPy array"):
            corrupt(image, "fog", 1, self.rng)

    def test_generator(self):
        with pytest.raises(UserError, match=r"rng is a int; expected a numpy\.random\.Generator"):
            corrupt(self.image, "fog", 1, 3)
