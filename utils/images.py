"""Reading pictures from disk."""

from pathlib import Path

import numpy as np
from PIL import Image

from utils.errors import UserError


def read_image(path: str | Path) -> np.ndarray:
    """A picture as (H, W, 3) uint8 RGB.

    Raises:
        UserError: missing, empty, truncated, of more than 8 bits a value, or no picture at all; names the file.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise UserError(
                    f"picture {path}: mode {image.mode}, more than 8 bits a value; expected 8 bits, convert it first"
                )
            return np.asarray(image.convert("RGB"))
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError) as error:  # PIL reports broken files with any of these
        raise UserError(
            f"picture {path}: cannot be read ({error}); it is missing, incomplete or no picture, fetch it anew "
            "(a corrupted copy: run its export again)"
        ) from error
