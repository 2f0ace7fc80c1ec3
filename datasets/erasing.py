"""Random erasing, and CIL-ReID's soft and self erasing, which mix the rectangle instead of replacing it.

Zhong et al., Random Erasing Data Augmentation, AAAI 2020, arXiv 1708.04896.
Chen et al., Benchmarks for Corruption Invariant Person Re-identification, NeurIPS D&B 2021, arXiv 2111.00880.
"""

from typing import Any

import albumentations as A
import numpy as np

# Share of the picture's area and aspect ratio of an erased rectangle: Zhong et al.
ERASING_AREA = (0.02, 1 / 3)
ERASING_RATIO = (0.3, 1 / 0.3)


def make_erasing(erasing_type: str, prob: float, mixing_coeff: tuple[float, float]) -> A.Erasing:
    """The erasing of INPUT.ERASING_TYPE: normal (noise), soft or self; see MixedErasing.

    Args:
        erasing_type: "normal", "soft" or "self".
        prob: probability that a picture is erased.
        mixing_coeff: see MixedErasing; normal erasing ignores them.
    """
    if erasing_type == "normal":
        return A.Erasing(scale=ERASING_AREA, ratio=ERASING_RATIO, fill="random", p=prob)
    return MixedErasing(erasing_type, mixing_coeff, p=prob)


class MixedErasing(A.Erasing):
    """A rectangle becomes (1 - m) x itself + m x something else, with m ~ Beta(a, b), drawn once a picture.

    soft: something else is the uniform noise of normal erasing; self: another rectangle of the same size, anywhere in
    the same picture (it may overlap the first). Views of one call share rectangle, m, noise and source position; each
    is mixed with its own content. From one seed, the rectangle and the noise are those of normal erasing.

    Args:
        erasing_type: "soft" or "self".
        mixing_coeff: (a, b), above 0.
        p: probability that a picture is erased.
    """

    def __init__(self, erasing_type: str, mixing_coeff: tuple[float, float], p: float) -> None:
        super().__init__(scale=ERASING_AREA, ratio=ERASING_RATIO, fill="random", p=p)
        self.erasing_type, self.mixing_coeff = erasing_type, mixing_coeff

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws `holes` (1, 4) (left, top, right, bottom), `seed` of the noise, m, and the `source` (top, left)."""
        drawn = super().get_params_dependent_on_data(params, data)
        ((left, top, right, bottom),) = drawn["holes"]
        height, width = params["shape"][:2]
        m = self.random_generator.beta(*self.mixing_coeff)
        source = self.py_random.randint(0, height - (bottom - top)), self.py_random.randint(0, width - (right - left))
        return {**drawn, "m": m, "source": source}

    def apply(
        self, img: np.ndarray, holes: np.ndarray, seed: int, m: float, source: tuple[int, int], **params: Any
    ) -> np.ndarray:
        """One view (H, W, 3) uint8 -> a new array of the same shape and dtype."""
        ((left, top, right, bottom),) = holes
        target = np.s_[top:bottom, left:right]
        if self.erasing_type == "soft":
            other = super().apply(img, holes, seed)[target]
        else:
            source_top, source_left = source
            other = img[source_top : source_top + bottom - top, source_left : source_left + right - left]
        mixed = img.copy()
        mixed[target] = np.rint((1 - m) * img[target] + m * other)
        return mixed
