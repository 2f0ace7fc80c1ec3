"""Names, families and severities: the 20 corruptions of the benchmark, and twelve further ones.

The 20: Hendrycks and Dietterich, ICLR 2019, https://arxiv.org/abs/1903.12261 (noise, blur, weather, digital) and, for
rain, Chen et al., "Benchmarks for Corruption Invariant Person Re-identification", https://arxiv.org/abs/2111.00880.
Family `bar`: the ten of ImageNet-C-bar, chosen to be unlike those of ImageNet-C; Mintun, Kirillov and Xie, NeurIPS
2021, https://arxiv.org/abs/2102.11273. Family `surveillance`: two of this project, see corruption/surveillance.py.
"""

from collections.abc import Iterable

from utils.errors import UserError, did_you_mean

# The order of imagecorruptions 1.1.2, then rain: the index of a name is part of published seeds.
DESCRIPTIONS = {
    "gaussian_noise": "Gaussian noise added to every value",
    "shot_noise": "Poisson noise, as in low light",
    "impulse_noise": "salt and pepper: values set to 0 or 255",
    "defocus_blur": "blur by a disc, as from a lens out of focus",
    "glass_blur": "pixels displaced locally, as behind frosted glass",
    "motion_blur": "blur along one direction",
    "zoom_blur": "mean of the image at several magnifications",
    "snow": "falling flakes with motion blur",
    "frost": "photograph of frost blended in",
    "fog": "plasma fractal blended in, contrast lost",
    "brightness": "HSV value raised",
    "contrast": "values pulled towards the mean colour",
    "elastic_transform": "small smooth displacements",
    "pixelate": "downsampled, then upsampled without interpolation",
    "jpeg_compression": "JPEG of low quality",
    "speckle_noise": "Gaussian noise proportional to the value",
    "gaussian_blur": "blur by a Gaussian kernel",
    "spatter": "drops of water (severity 1 to 3) or mud (4, 5) on the lens",
    "saturate": "HSV saturation lowered (severity 1, 2) or raised",
    "rain": "slanted streaks, blurred and darkened",
}

CORRUPTIONS = tuple(DESCRIPTIONS)

FAMILIES = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "gaussian_blur"),
    "weather": ("snow", "frost", "fog", "brightness", "spatter", "rain"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression", "saturate"),
}

# In the order of the published list.
UNSEEN_DESCRIPTIONS = {
    "blue_noise_sample": "pixels set black by a threshold on blue noise",
    "brownish_noise": "noise of low frequencies added to every channel",
    "caustic_refraction": "refraction and light as at the bottom of a pool",
    "checkerboard_cutout": "fields of a turned checkerboard set to grey",
    "cocentric_sine_waves": "wavy rings around a point added",
    "inverse_sparkles": "white everywhere but in a star with rays",
    "perlin_noise": "Perlin turbulence blended in",
    "plasma_noise": "coloured plasma of nested sines blended in",
    "single_frequency_greyscale": "one plane sine wave added",
    "sparkles": "five white stars with rays",
}
SURVEILLANCE_DESCRIPTIONS = {
    "low_light": "short exposure: shot noise and read noise, amplified",
    "low_resolution": "downsampled by area, then upsampled, as from a far camera",
}

UNSEEN = tuple(UNSEEN_DESCRIPTIONS)
SURVEILLANCE = tuple(SURVEILLANCE_DESCRIPTIONS)

# Families that "all" does not include.
FURTHER_FAMILIES = {"bar": UNSEEN, "surveillance": SURVEILLANCE}

ALL_DESCRIPTIONS = {**DESCRIPTIONS, **UNSEEN_DESCRIPTIONS, **SURVEILLANCE_DESCRIPTIONS}
ALL_FAMILIES = {**FAMILIES, **FURTHER_FAMILIES}

SEVERITIES = (1, 2, 3, 4, 5)
BACKENDS = ("fast", "imagecorruptions")


def family_of(name: str) -> str:
    """The family, a key of ALL_FAMILIES, of a corruption."""
    return next(family for family, members in ALL_FAMILIES.items() if name in members)


def nearest_hint(name: object, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: all known names, and the nearest, if any."""
    known = tuple(known)
    return f"known: {', '.join(known)}{did_you_mean(name, known, cutoff=0.5)}"


def check_name(name: object) -> None:
    """Raises UserError unless `name` is a corruption: one of CORRUPTIONS, UNSEEN or SURVEILLANCE."""
    if not isinstance(name, str) or name not in ALL_DESCRIPTIONS:
        raise UserError(f"unknown corruption {name!r}; {nearest_hint(name, ALL_DESCRIPTIONS)}")
