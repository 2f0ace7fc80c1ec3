"""Augmentations of training images: random erasing, its soft and self variants of CIL-ReID, and AugMix.

Zhong et al., Random Erasing Data Augmentation, AAAI 2020, arXiv 1708.04896.
Chen et al., Benchmarks for Corruption Invariant Person Re-identification, NeurIPS D&B 2021, arXiv 2111.00880.
Hendrycks et al., AugMix: A Simple Data Processing Method to Improve Robustness and Uncertainty, ICLR 2020,
arXiv 1912.02781; torchvision's implementation.
"""

from typing import Any

import albumentations as A
import numpy as np
import torch
from torchvision.transforms import AugMix

# Fraction of the image's area, and aspect ratio, of an erased rectangle: Zhong et al.
ERASING_AREA = (0.02, 1 / 3)
ERASING_RATIO = (0.3, 1 / 0.3)
# The paper's three chains of one to three operations, with the defaults of its CIFAR experiments; all_ops would add
# brightness, color, contrast and sharpness, which resemble the test corruptions.
_AUGMIX = AugMix(severity=3, mixture_width=3, chain_depth=-1, alpha=1.0, all_ops=False)


def make_erasing(erasing_type: str, prob: float, mixing_coeff: tuple[float, float]) -> A.Erasing:
    """Makes the erasing of INPUT.ERASING_TYPE.

    Args:
        erasing_type: "normal" (noise), "soft" or "self"; see MixedErasing.
        prob: probability that an image is erased.
        mixing_coeff: see MixedErasing; normal erasing ignores it.
    """
    if erasing_type == "normal":
        return A.Erasing(scale=ERASING_AREA, ratio=ERASING_RATIO, fill="random", p=prob)
    return MixedErasing(erasing_type, mixing_coeff, p=prob)


class MixedErasing(A.Erasing):
    """Replaces a rectangle by (1 - m) x itself + m x other content, with m ~ Beta(a, b), sampled once an image.

    soft: the other content is the uniform noise of normal erasing; self: another rectangle of the same size, anywhere
    in the same image (they may overlap). Views of one call share rectangle, m, noise and source position; each is mixed
    with its own content. With one seed, the rectangle and the noise are those of normal erasing.

    Args:
        erasing_type: "soft" or "self".
        mixing_coeff: (a, b), above 0.
        p: probability that an image is erased.
    """

    def __init__(self, erasing_type: str, mixing_coeff: tuple[float, float], p: float) -> None:
        super().__init__(scale=ERASING_AREA, ratio=ERASING_RATIO, fill="random", p=p)
        self.erasing_type, self.mixing_coeff = erasing_type, mixing_coeff

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Samples `holes` (1, 4) (left, top, right, bottom), `seed` of the noise, `m`, and the `source` (top, left)."""
        sampled = super().get_params_dependent_on_data(params, data)
        ((left, top, right, bottom),) = sampled["holes"]
        height, width = params["shape"][:2]
        m = self.random_generator.beta(*self.mixing_coeff)
        source = self.py_random.randint(0, height - (bottom - top)), self.py_random.randint(0, width - (right - left))
        return {**sampled, "m": m, "source": source}

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


def augmix(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mixes an image (H, W, 3) uint8 with chains of operations on itself; all randomness comes from `rng`.

    torchvision samples from torch's global RNG, whose state is restored afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also seed the CUDA devices, which fork_rng does not restore here.
        torch.default_generator.manual_seed(int(rng.integers(2**32)))
        mixed = _AUGMIX(torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))))  # (H, W, 3) -> (3, H, W)
    return np.ascontiguousarray(mixed.numpy().transpose(1, 2, 0))  # (3, H, W) -> (H, W, 3)
