"""Geometry of training images; the clean and the corrupted view of an image share it."""

import random

import albumentations as A
import numpy as np
import torch
from PIL import Image

from datasets.augment import make_erasing
from utils.preprocessing import resize, to_tensor


class TrainTransform:
    """Resize (bicubic by PIL, as the TransReID codebase does), flip, pad and crop, random erasing.

    Args:
        size: (height, width) in pixels.
        flip_prob, erasing_prob: probabilities of a horizontal flip and of random erasing.
        padding: zero padding in pixels on every side before the random crop back to `size`.
        erasing_type, mixing_coeff: content of an erased rectangle; see datasets.augment.
        paired: both views share their geometry; otherwise each has its own.
    """

    def __init__(
        self,
        size: tuple[int, int],
        *,
        flip_prob: float,
        padding: int,
        erasing_prob: float,
        erasing_type: str = "normal",
        mixing_coeff: tuple[float, float] = (1.0, 1.0),
        paired: bool = True,
    ) -> None:
        self.size, self.paired = size, paired
        height, width = size
        self.geometry = A.Compose(
            [
                A.HorizontalFlip(p=flip_prob),
                A.Pad(padding=padding, fill=0, p=1.0 if padding else 0.0),
                A.RandomCrop(height, width),
                make_erasing(erasing_type, erasing_prob, mixing_coeff),
            ],
            additional_targets={"corrupted": "image"},
        )

    def __call__(
        self, image: np.ndarray, corrupted: np.ndarray | None, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Both views, (H, W, 3) uint8, as (3, height, width) uint8 tensors; all randomness comes from `rng`."""
        seed, other_seed = (int(value) for value in rng.integers(2**32, size=2))
        if corrupted is None:
            return self._apply(seed, image=image)["image"], None
        if self.paired:
            views = self._apply(seed, image=image, corrupted=corrupted)
            return views["image"], views["corrupted"]
        return self._apply(seed, image=image)["image"], self._apply(other_seed, image=corrupted)["image"]

    def view(self, image: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        """A single view, (H, W, 3) uint8, with its own geometry, as a (3, height, width) uint8 tensor."""
        return self._apply(int(rng.integers(2**32)), image=image)["image"]

    def _apply(self, seed: int, **views: np.ndarray) -> dict[str, torch.Tensor]:
        resized = {name: resize(view, self.size, Image.Resampling.BICUBIC) for name, view in views.items()}
        # One RNG for all transforms: set_random_seed would seed each alike, and flips would decide erasing.
        self.geometry.set_random_state(np.random.default_rng(seed), random.Random(seed))
        return {name: to_tensor(view) for name, view in self.geometry(**resized).items()}
