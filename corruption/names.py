"""The 20 corruptions: names, families and severities.

Hendrycks and Dietterich, ICLR 2019, https://arxiv.org/abs/1903.12261 (noise, blur, weather, digital) and, for rain,
Chen et al., "Benchmarks for Corruption Invariant Person Re-identification", https://arxiv.org/abs/2111.00880.
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

SEVERITIES = (1, 2, 3, 4, 5)
BACKENDS = ("fast", "imagecorruptions")


def family_of(name: str) -> str:
    """The family, a key of FAMILIES, of one of CORRUPTIONS."""
    return next(family for family, members in FAMILIES.items() if name in members)


def nearest_hint(name: object, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: all known names, and the nearest, if any."""
    known = tuple(known)
    return f"known: {', '.join(known)}{did_you_mean(name, known, cutoff=0.5)}"


def check_name(name: object) -> None:
    """Raises UserError unless `name` is one of CORRUPTIONS."""
    if not isinstance(name, str) or name not in DESCRIPTIONS:
        raise UserError(f"unknown corruption {name!r}; {nearest_hint(name, CORRUPTIONS)}")
