"""Geometry of training and test pictures; the clean and the corrupted view of a picture share theirs."""

import os
import random

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the network for a newer version
import albumentations as A
import numpy as np
import torch
from PIL import Image

from datasets.erasing import make_erasing
from datasets.images import resize


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """(H, W, 3) uint8 -> (3, H, W) uint8; the division by 255 waits for the device."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


class TestTransform:
    """Resize, bilinear by PIL, as the family's test pictures are made."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def __call__(self, image: np.ndarray) -> torch.Tensor:
        return to_tensor(resize(image, self.size, Image.Resampling.BILINEAR))


class TrainTransform:
    """Resize (bicubic by PIL, as the family), flip, pad and crop, random erasing.

    Args:
        size: (height, width) in pixels.
        flip_prob, erasing_prob: probabilities of a horizontal flip and of random erasing.
        padding: zero padding in pixels on every side before the random crop back to `size`.
        erasing_type, mixing_coeff: what an erased rectangle shows; see datasets.erasing.
        paired: the two views share their geometry; otherwise each draws its own.
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
        """Both views, (H, W, 3) uint8, as (3, height, width) uint8 tensors; draws come from `rng` alone."""
        seed, other_seed = (int(value) for value in rng.integers(2**32, size=2))
        if corrupted is None:
            return self._draw(seed, image=image)["image"], None
        if self.paired:
            views = self._draw(seed, image=image, corrupted=corrupted)
            return views["image"], views["corrupted"]
        return self._draw(seed, image=image)["image"], self._draw(other_seed, image=corrupted)["image"]

    def view(self, image: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        """A single view, (H, W, 3) uint8, with a geometry of its own, as a (3, height, width) uint8 tensor."""
        return self._draw(int(rng.integers(2**32)), image=image)["image"]

    def _draw(self, seed: int, **views: np.ndarray) -> dict[str, torch.Tensor]:
        resized = {name: resize(view, self.size, Image.Resampling.BICUBIC) for name, view in views.items()}
        # one generator for all: set_random_seed would start each transform alike, and flips would decide erasing
        self.geometry.set_random_state(np.random.default_rng(seed), random.Random(seed))
        return {name: to_tensor(view) for name, view in self.geometry(**resized).items()}
