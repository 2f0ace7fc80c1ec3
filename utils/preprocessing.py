"""From a decoded image to what a model takes at test: resized, as a tensor, in [0, 1]. The model normalises itself."""

import numpy as np
import torch
from PIL import Image


def resize(image: np.ndarray, size: tuple[int, int], resample: Image.Resampling) -> np.ndarray:
    """Resizes (H, W, 3) to `size` (height, width) with PIL, as the TransReID codebase does; a no-op where it fits."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), resample))


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """(H, W, 3) uint8 -> (3, H, W) uint8; `as_float` divides by 255 on the device of the model."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def as_float(images: torch.Tensor) -> torch.Tensor:
    """uint8 -> float32 in [0, 1]."""
    return images.float() / 255


class TestTransform:
    """Resizes test images, bilinear by PIL, as the TransReID codebase does."""

    __test__ = False  # pytest would collect it by its name

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def __call__(self, image: np.ndarray) -> torch.Tensor:
        return to_tensor(resize(image, self.size, Image.Resampling.BILINEAR))
