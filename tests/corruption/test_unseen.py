"""The ten corruptions of ImageNet-C-bar: against the published images, and the compiled loops against whole arrays."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from corruption import FURTHER_FAMILIES, SEVERITIES, SURVEILLANCE, UNSEEN, corrupt, unseen, unseen_arrays
from corruption.names import BACKENDS
from tests.corruption.test_distribution import NUM_IMAGES, SAMPLE, statistics
from tests.helpers import REPOSITORY, load_golden

GOLDEN = load_golden("corruptions_bar.npz")
SIZES = [(1, 1), (1, 9), (2, 3), (16, 7), (40, 23), (33, 64)]


@pytest.fixture(params=["compiled", "arrays"])
def kernels(request, monkeypatch):
    """Runs a test with the compiled loops and with those on whole arrays."""
    module = unseen_arrays
    if request.param == "compiled":
        module = pytest.importorskip("corruption._unseen", reason="not built: python setup.py build_ext --inplace")
    monkeypatch.setattr(unseen, "_kernels", module)
    return module


def test_names():
    assert tuple(GOLDEN["names"].tolist()) == UNSEEN
    assert FURTHER_FAMILIES == {"bar": UNSEEN, "surveillance": SURVEILLANCE}


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("kind", ["published_64", "published_53", "proposed_97_53"])
@pytest.mark.parametrize("name", UNSEEN)
def test_golden(name, kind):
    """Squares of even and odd side by the published code, and a rectangle by an implementation of its formulas."""
    index, size = UNSEEN.index(name), kind.partition("_")[2]
    for expected, severity in zip(GOLDEN[kind][index], GOLDEN[f"severities_{size}"], strict=True):
        found = corrupt(GOLDEN[f"image_{size}"], name, severity, np.random.RandomState(1000 * index + severity))
        difference = np.abs(found.astype(int) - expected)
        assert difference.max() <= 1, severity
        # Displacements of caustic_refraction are rounded to 3 decimals: the last bit of a sine may decide.
        assert (difference > 0).sum() <= (3 if name == "caustic_refraction" else 0), severity


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", UNSEEN)
def test_compiled_loops_give_the_images_of_whole_arrays(name, size, monkeypatch):
    compiled = pytest.importorskip("corruption._unseen", reason="not built: python setup.py build_ext --inplace")
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for severity in SEVERITIES:
        found = []
        for module in (compiled, unseen_arrays):
            monkeypatch.setattr(unseen, "_kernels", module)
            found.append(getattr(unseen, name)(image, severity, np.random.default_rng(severity)))
        assert (found[0] == found[1]).all(), severity


def test_compiled_sines():
    compiled = pytest.importorskip("corruption._unseen", reason="not built: python setup.py build_ext --inplace")
    rng = np.random.default_rng(0)
    multiples = np.arange(-40, 40) * np.pi / 4
    values = np.concatenate([multiples, rng.uniform(-1e3, 1e3, 5000), rng.uniform(-3e6, 3e6, 5000)])
    out = np.empty((2, len(values)))
    compiled.sines(values, out)
    np.testing.assert_allclose(out, [np.sin(values), np.cos(values)], rtol=0, atol=4e-16)


@pytest.mark.parametrize("name", UNSEEN)
def test_a_generator_against_the_published_numbers(name):
    """A Generator draws other numbers from the same distributions."""
    found, expected = (
        statistics([corrupt(SAMPLE, name, 4, make(seed)) for seed in range(NUM_IMAGES)], SAMPLE)
        for make in (np.random.default_rng, np.random.RandomState)
    )
    for column in range(found.shape[1]):
        assert stats.ks_2samp(found[:, column], expected[:, column]).pvalue > 1e-4, column


@pytest.mark.parametrize("size", [(90, 30), (30, 90)])
def test_rectangles_are_corrupted_up_to_every_corner(size):
    image = np.full((*size, 3), 100, np.uint8)
    for name in UNSEEN:
        changed = [(corrupt(image, name, 5, np.random.default_rng(seed)) != image).any(axis=2) for seed in range(25)]
        assert np.any(changed, axis=0)[[0, 0, -1, -1], [0, -1, 0, -1]].all(), name


@pytest.mark.parametrize("exponent", [1, -2])
def test_noise_of_a_rectangle_has_one_spectrum_in_all_directions(exponent):
    """Mean power at equal cycles per pixel, down and across; 16 frequencies down are 4 across in 128 x 32."""
    amplitudes = (unseen._squared_frequencies(128, 32) + 1) ** (exponent / 2)
    noise = [unseen._spectral_noise(amplitudes, np.random.default_rng(seed)) for seed in range(400)]
    assert np.std(noise, axis=(1, 2)) == pytest.approx(np.ones(400))
    power = np.mean(np.abs(np.fft.fft2(noise)) ** 2, axis=0)
    for frequency in (1, 2, 4, 8):
        assert power[4 * frequency, 0] == pytest.approx(power[0, frequency], rel=0.35), frequency
    assert (power[32, 0] > power[8, 0]) == (exponent > 0)


def test_larger_severities_change_more():
    for name in (*UNSEEN, *SURVEILLANCE):
        images = [[corrupt(SAMPLE, name, k, np.random.default_rng(i)) for i in range(30)] for k in SEVERITIES]
        change = np.abs(np.array(images) - SAMPLE.astype(float)).mean(axis=(1, 2, 3, 4))
        assert (np.diff(change) > 0).all(), name


def test_the_backends_are_the_same():
    for name in (*UNSEEN, *SURVEILLANCE):
        for make in (np.random.default_rng, np.random.RandomState):
            images = [corrupt(SAMPLE, name, 3, make(5), backend=backend) for backend in BACKENDS]
            assert (images[0] == images[1]).all(), name


def test_without_the_extensions_the_images_are_the_same():
    code = (
        "import sys\n"
        "if 'without' in sys.argv: sys.modules |= {'corruption._kernels': None, 'corruption._unseen': None}\n"
        "import hashlib, numpy as np\n"
        "from corruption import SURVEILLANCE, UNSEEN, corrupt\n"
        "image = np.random.default_rng(0).integers(0, 256, (40, 36, 3), dtype=np.uint8)\n"
        "for name in (*UNSEEN, *SURVEILLANCE):\n"
        "    print(hashlib.sha256(corrupt(image, name, 3, np.random.default_rng(1))).hexdigest())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "without"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    image = np.random.default_rng(0).integers(0, 256, (40, 36, 3), dtype=np.uint8)
    for name, digest in zip((*UNSEEN, *SURVEILLANCE), done.stdout.split(), strict=True):
        found = corrupt(image, name, 3, np.random.default_rng(1))
        assert hashlib.sha256(found.tobytes()).hexdigest() == digest, name


def test_a_perlin_gradient_of_length_0_stays_0():
    """Two of 2^31 random integers are multiples of 512 plus 256: the published code divides 0 by 0."""

    class Constant(np.random.RandomState):
        def randint(self, low, high, size=None, dtype=int):
            return np.full(size or (), 256, dtype)

    table, gradients = unseen._perlin_tables(Constant())
    assert (gradients == 0).all()
    assert table.shape == (514,)


def test_checkerboard_fields_are_grey_squares():
    image = np.zeros((90, 90, 3), np.uint8)
    shares = []
    for seed in range(60):
        found = corrupt(image, "checkerboard_cutout", 4, np.random.default_rng(seed))
        assert set(np.unique(found)) <= {0, 128}
        shares.append((found == 128).mean())
    # Half of the fields are black ones, half of these are chosen at severity 4.
    assert np.mean(shares) == pytest.approx(0.25, abs=0.03)
