"""Reading pictures from disk."""

from pathlib import Path

import numpy as np
from PIL import Image

from utils.errors import UserError


def read_image(path: str | Path) -> np.ndarray:
    """A picture as (H, W, 3) uint8 RGB.

    Raises:
        UserError: missing, empty, truncated or no picture at all; names the file.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # PIL reports broken files with any of these
        raise UserError(
            f"picture {path}: cannot be read ({error}); it is missing, incomplete or no picture, fetch it anew"
        ) from error
