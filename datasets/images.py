"""Pictures at another size."""

import numpy as np
from PIL import Image


def resize(image: np.ndarray, size: tuple[int, int], resample: Image.Resampling) -> np.ndarray:
    """The picture (H, W, 3) at `size` (height, width), by PIL, as the family resizes; the same array if it fits."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), resample))
