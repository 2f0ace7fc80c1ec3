"""The backend `fast`: the 20 corruptions on compiled kernels, by family in noise, blur, weather and digital."""

import numpy as np

from corruption import blur, digital, noise, weather
from corruption.draws import ExactDraws, FastDraws
from corruption.names import CORRUPTIONS, family_of

_FAMILIES = {"noise": noise, "blur": blur, "weather": weather, "digital": digital}
_FUNCTIONS = {name: getattr(_FAMILIES[family_of(name)], name) for name in CORRUPTIONS if name != "rain"}


def run(image: np.ndarray, name: str, severity: int, rng: np.random.Generator | np.random.RandomState) -> np.ndarray:
    """Corruption `name` of a C-contiguous (H, W, 3) uint8 RGB picture; a new one. See `corruption.corrupt`."""
    draws = ExactDraws(rng) if isinstance(rng, np.random.RandomState) else FastDraws(rng)
    return _FUNCTIONS[name](image, severity, draws)
