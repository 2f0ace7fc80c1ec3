import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
from PIL import Image

from corruption import CORRUPTIONS, FAMILIES, SURVEILLANCE, UNSEEN, corrupt, rain
from corruption.imagecorruptions_backend import published_function
from corruption.names import BACKENDS
from corruption.rain import render_rain, sample_drops
from tests.helpers import REPOSITORY, load_golden
from utils.errors import UserError

GOLDEN = load_golden("corruptions.npz")
ALL_CORRUPTIONS = (*CORRUPTIONS, *UNSEEN, *SURVEILLANCE)
IMAGES = {key: GOLDEN[f"image_{key}"] for key in ("a", "b")}


def test_names_and_families():
    assert tuple(GOLDEN["names"].tolist()) == CORRUPTIONS
    assert tuple(FAMILIES) == ("noise", "blur", "weather", "digital")
    assert sorted(name for family in FAMILIES.values() for name in family) == sorted(CORRUPTIONS)


def test_rain_step_by_step():
    image = np.full((200, 100, 3), 150, np.uint8)
    drops = sample_drops(200, 100, 1, np.random.RandomState(0))
    assert drops.length == 10
    assert len(drops.starts) == 200 * 100 // 770
    assert -10 < drops.slant < 10
    no_drops = drops._replace(starts=drops.starts[:0])
    dry = render_rain(image, no_drops, 1)
    assert np.unique(dry).tolist() == [int(150 - 0.1 * 255)]
    wet = render_rain(image, drops, 1)
    assert dry.max() < wet.max() <= int(200 - 0.1 * 255)


class TestPurity:
    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState])
    def test_input_is_never_changed_and_output_is_new(self, make, backend):
        image = IMAGES["a"].copy()
        image.flags.writeable = False
        for name in ALL_CORRUPTIONS:
            found = corrupt(image, name, 3, make(1), backend=backend)
            assert not np.shares_memory(found, image)
            assert found.flags.c_contiguous
            assert (found.shape, found.dtype) == (image.shape, np.uint8)
            assert (found != image).any()
        assert (image == IMAGES["a"]).all()

    def test_a_view_and_its_copy_give_the_same(self):
        view = IMAGES["a"][::2, ::-1]
        for name in ALL_CORRUPTIONS:
            for make in (np.random.default_rng, np.random.RandomState):
                results = [corrupt(image, name, 2, make(4)) for image in (view, view.copy())]
                assert (results[0] == results[1]).all(), name

    @pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState])
    def test_a_pure_function_of_the_generator(self, make):
        for name in ALL_CORRUPTIONS:
            np.random.seed(len(name))  # the global RNG has no influence
            first, again = (corrupt(IMAGES["b"], name, 4, make(9)) for _ in range(2))
            assert (first == again).all(), name

    def test_the_global_rng_is_left_alone(self):
        np.random.seed(3)
        for name in ALL_CORRUPTIONS:
            corrupt(IMAGES["b"], name, 1, np.random.default_rng(0))
        found = np.random.random()
        np.random.seed(3)
        assert found == np.random.random()

    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState])
    def test_threads_do_not_share_random_numbers(self, make, backend):
        def job(seed):
            return [corrupt(IMAGES["b"], name, 3, make(seed), backend=backend) for name in ALL_CORRUPTIONS]

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


@pytest.mark.parametrize("size", [(31, 33), (60, 40), (20, 9), (1, 1)])
def test_small_images_by_the_documented_rule(size):
    """Enlarged bilinearly to sides of 32 (rain: to height 65, and a width of 10), corrupted, reduced by area."""
    height, width = size
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    need_min_side = ("glass_blur", "motion_blur", "zoom_blur", "snow", "spatter", "pixelate")
    sizes = dict.fromkeys(need_min_side, (max(height, 32), max(width, 32)))
    sizes["rain"] = (65, max(int(width * 65 / height), 10))
    for name, working_size in sizes.items():
        if working_size == size:
            continue
        large = cv2.resize(image, working_size[::-1], interpolation=cv2.INTER_LINEAR)
        expected = corrupt(large, name, 2, np.random.RandomState(3))
        expected = cv2.resize(expected, (width, height), interpolation=cv2.INTER_AREA)
        assert (corrupt(image, name, 2, np.random.RandomState(3)) == expected).all(), name


def test_images_that_are_just_large_enough_are_not_resized():
    image = np.random.default_rng(0).integers(0, 256, (61, 10, 3), dtype=np.uint8)
    expected = rain.rain(image, 4, np.random.RandomState(0))
    assert (corrupt(image, "rain", 4, np.random.RandomState(0)) == expected).all()
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for name in ("pixelate", "zoom_blur"):
        published = np.asarray(published_function(name)(Image.fromarray(image), 3)).astype(np.uint8)
        assert (corrupt(image, name, 3, np.random.RandomState(0)) == published).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (5, 3), (16, 200), (33, 31), (300, 20), (700, 500)])
def test_any_size(size, capsys):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for name in ALL_CORRUPTIONS:
        for severity in (1, 5):
            assert corrupt(image, name, severity, np.random.default_rng(2)).shape == image.shape, name
            assert corrupt(image, name, severity, np.random.RandomState(2)).shape == image.shape, name
            if max(size) < 300 or name == "frost":
                published = corrupt(image, name, severity, np.random.default_rng(2), backend="imagecorruptions")
                assert published.shape == image.shape, name
    assert capsys.readouterr().out == ""


def test_without_the_extension_the_published_functions_run_and_one_warning_says_so():
    script = (
        "import sys; sys.modules |= {'corruption._kernels': None, 'corruption._unseen': None}\n"
        "import logging; logging.basicConfig()\n"
        "import numpy as np\n"
        "from corruption import CORRUPTIONS, corrupt\n"
        "image = np.random.default_rng(0).integers(0, 256, (40, 36, 3), dtype=np.uint8)\n"
        "for name in CORRUPTIONS:\n"
        "    found = corrupt(image, name, 2, np.random.default_rng(1))\n"
        "    published = corrupt(image, name, 2, np.random.default_rng(1), backend='imagecorruptions')\n"
        "    assert (found == published).all(), name\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("python setup.py build_ext --inplace") == 1
    assert "backend imagecorruptions is used instead of fast" in done.stderr


class TestErrors:
    image, rng = np.zeros((40, 40, 3), np.uint8), np.random.default_rng(0)

    def test_an_unknown_name_suggests_the_nearest(self):
        with pytest.raises(UserError, match=r"unknown corruption 'gausian_blur'; .*did you mean gaussian_blur"):
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

    def test_backend(self):
        with pytest.raises(UserError, match=r"unknown backend 'fst'; .*did you mean fast"):
            corrupt(self.image, "fog", 1, self.rng, backend="fst")

    def test_generator(self):
        with pytest.raises(UserError, match=r"rng is a int; expected a numpy\.random\.Generator"):
            corrupt(self.image, "fog", 1, 3)
