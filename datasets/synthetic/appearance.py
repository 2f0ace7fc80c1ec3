"""Samples what a person wears and carries, and computes the colours of cloth at points of the body.

Identities share a few palettes, so they differ by pattern, cut, bag, hair and build rather than by colour.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")
Colour = tuple[float, float, float]

# Difficulty: fewer palettes and a larger COLOUR_JITTER make colours less discriminative; PLAIN_SHARE is the fraction of
# people whose upper garment has no pattern; BUILD_SPREAD is how much bodies differ.
PLAIN_SHARE = 0.12
COLOUR_JITTER = 0.03
BUILD_SPREAD = 0.16

# Upper colour, lower colour and accent (pattern, inner shirt, print), RGB in [0, 1].
PALETTES = (
    ((0.16, 0.18, 0.24), (0.24, 0.27, 0.36), (0.86, 0.86, 0.84)),
    ((0.88, 0.88, 0.86), (0.20, 0.22, 0.30), (0.24, 0.28, 0.42)),
    ((0.62, 0.20, 0.20), (0.20, 0.21, 0.26), (0.90, 0.86, 0.80)),
    ((0.28, 0.42, 0.62), (0.58, 0.53, 0.45), (0.90, 0.90, 0.88)),
    ((0.45, 0.46, 0.47), (0.17, 0.17, 0.19), (0.90, 0.88, 0.82)),
)
HAIR_COLOURS = ((0.07, 0.06, 0.06), (0.22, 0.14, 0.09), (0.66, 0.52, 0.32))
SKIN_TONES = ((0.88, 0.70, 0.60), (0.74, 0.55, 0.43), (0.45, 0.30, 0.22))
BAG_COLOURS = ((0.10, 0.10, 0.11), (0.55, 0.16, 0.16), (0.78, 0.72, 0.58), (0.16, 0.36, 0.30))
SHOE_COLOURS = ((0.08, 0.08, 0.08), (0.90, 0.90, 0.90), (0.38, 0.24, 0.14))

UPPERS = ("t-shirt", "long sleeve", "vest", "open jacket", "hoodie", "coat", "dress")
LOWERS = ("trousers", "wide trousers", "shorts", "skirt", "long skirt")
PATTERNS = ("stripes", "hoops", "vertical", "checks", "dots", "print", "block", "band", "panels")
LOWER_PATTERNS = ("plain", "plain", "side stripe", "checks", "hoops")
HAIR_STYLES = ("buzz", "short", "long", "ponytail", "bun", "cap", "hood", "afro")
BAGS = ("none", "none", "backpack", "backpack", "handbag", "messenger", "shopping", "suitcase")


@dataclass(frozen=True)
class Cloth:
    """A garment: `colour` and `accent` (of the pattern) are (3,) RGB in [0, 1]; `pitch` scales the pattern."""

    cut: str
    pattern: str
    colour: np.ndarray
    accent: np.ndarray
    pitch: float


@dataclass(frozen=True)
class Appearance:
    """One person; `width`, `height` and `legs` scale the body and the length of its legs, all around 1."""

    upper: Cloth
    lower: Cloth
    hair_style: str
    hair: np.ndarray
    skin: np.ndarray
    bag: str
    bag_colour: np.ndarray
    bag_side: int
    shoes: np.ndarray
    boots: bool
    width: float
    height: float
    legs: float


def sample_appearance(rng: np.random.Generator) -> Appearance:
    """Samples a person; a pure function of the state of `rng`."""

    def one_of(options: Sequence[T]) -> T:
        return options[int(rng.integers(len(options)))]

    def tint(colour: Colour) -> np.ndarray:
        jittered = np.asarray(colour, np.float32) + rng.normal(0, COLOUR_JITTER, 3)
        return np.clip(jittered, 0.03, 0.97).astype(np.float32)

    upper, lower, accent = one_of(PALETTES)
    plain = rng.random() < PLAIN_SHARE
    pitch = rng.choice([0.8, 1.3])
    upper_cloth = Cloth(one_of(UPPERS), "plain" if plain else one_of(PATTERNS), tint(upper), tint(accent), pitch)
    lower_cloth = Cloth(one_of(LOWERS), one_of(LOWER_PATTERNS), tint(lower), tint(accent), 1.0)
    return Appearance(
        upper=upper_cloth,
        lower=lower_cloth,
        hair_style=one_of(HAIR_STYLES),
        hair=tint(one_of(HAIR_COLOURS)),
        skin=tint(one_of(SKIN_TONES)),
        bag=one_of(BAGS),
        bag_colour=tint(one_of(BAG_COLOURS)),
        bag_side=int(one_of((-1, 1))),
        shoes=tint(one_of(SHOE_COLOURS)),
        boots=bool(rng.random() < 0.25),
        width=1 + BUILD_SPREAD * float(rng.uniform(-1, 1.4)),
        height=1 + BUILD_SPREAD * float(rng.uniform(-0.4, 0.25)),
        legs=1 + BUILD_SPREAD * float(rng.uniform(-0.4, 0.4)),
    )


def _wave(position: np.ndarray, period: float, duty: float = 0.5) -> np.ndarray:
    """A square wave in {0, 1} as float32: 1 on the first `duty` of each period."""
    return ((position / period) % 1.0 < duty).astype(np.float32)


def pattern_mask(pattern: str, angle: np.ndarray, drop: np.ndarray, pitch: float) -> np.ndarray:
    """Computes the weight of the accent colour in a pattern.

    Args:
        pattern: one of PATTERNS or LOWER_PATTERNS.
        angle: (H, W) direction of the surface around the body in radians; 0: front, pi: back.
        drop: (H, W) distance below the top of the garment in body heights.
        pitch: factor on the size of the pattern.

    Returns:
        (H, W) float32 in [0, 1].
    """
    if pattern == "stripes":
        return _wave(drop, 0.052 * pitch, 0.45)
    if pattern == "hoops":
        return _wave(drop, 0.11 * pitch)
    if pattern == "vertical":
        return _wave(angle, 0.62 * pitch, 0.4)
    if pattern == "checks":
        return 0.5 * (_wave(drop, 0.075 * pitch) + _wave(angle, 0.8 * pitch))
    if pattern == "dots":
        across, down = angle / (0.62 * pitch) % 1.0 - 0.5, drop / (0.065 * pitch) % 1.0 - 0.5
        return (across**2 + down**2 < 0.1).astype(np.float32)
    if pattern == "print":
        return ((np.abs(angle) < 0.62) & (np.abs(drop - 0.115) < 0.05 * pitch)).astype(np.float32)
    if pattern == "block":
        return (drop < 0.115 * pitch).astype(np.float32)
    if pattern == "band":
        return (np.abs(drop - 0.16) < 0.033 * pitch).astype(np.float32)
    if pattern == "panels":
        return (np.abs(np.abs(angle) - np.pi / 2) < 0.62).astype(np.float32)
    if pattern == "side stripe":
        return (np.abs(np.abs(angle) - np.pi / 2) < 0.45).astype(np.float32)
    return np.zeros_like(drop)


def cloth_colours(cloth: Cloth, angle: np.ndarray, drop: np.ndarray) -> np.ndarray:
    """Computes the colours, (H, W, 3), of a garment at surface points; see `pattern_mask`."""
    weight = pattern_mask(cloth.pattern, angle, drop, cloth.pitch)[..., None]
    return cloth.colour * (1 - weight) + cloth.accent * weight
