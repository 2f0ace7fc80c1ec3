"""Geometry of training and test pictures; the clean and the corrupted view of a picture share theirs."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would ask the network for a newer version
import albumentations as A
import numpy as np
import torch
from PIL import Image

from datasets.images import resize

# Share of the picture's area and aspect ratio of an erased rectangle: Zhong et al., Random Erasing, AAAI 2020.
ERASING_AREA = (0.02, 1 / 3)
ERASING_RATIO = (0.3, 1 / 0.3)


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
        paired: the two views share their geometry; otherwise each draws its own.
    """

    def __init__(
        self, size: tuple[int, int], *, flip_prob: float, padding: int, erasing_prob: float, paired: bool = True
    ) -> None:
        self.size, self.paired = size, paired
        height, width = size
        self.geometry = A.Compose(
            [
                A.HorizontalFlip(p=flip_prob),
                A.Pad(padding=padding, fill=0, p=1.0 if padding else 0.0),
                A.RandomCrop(height, width),
                A.Erasing(scale=ERASING_AREA, ratio=ERASING_RATIO, fill="random", p=erasing_prob),
            ],
            additional_targets={"corrupted": "image"},
        )

    def __call__(
        self, image: np.ndarray, corrupted: np.ndarray | None, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Both views, (H, W, 3) uint8, as (3, height, width) uint8 tensors; draws come from `rng` alone."""
        seed, other_seed = (int(value) for value in rng.integers(2**32, size=2))
        views = {"image": resize(image, self.size, Image.Resampling.BICUBIC)}
        if corrupted is not None and self.paired:
            views["corrupted"] = resize(corrupted, self.size, Image.Resampling.BICUBIC)
        self.geometry.set_random_seed(seed)
        views = self.geometry(**views)
        if corrupted is not None and not self.paired:
            self.geometry.set_random_seed(other_seed)
            other = self.geometry(image=resize(corrupted, self.size, Image.Resampling.BICUBIC))
            views["corrupted"] = other["image"]
        return to_tensor(views["image"]), to_tensor(views["corrupted"]) if corrupted is not None else None
