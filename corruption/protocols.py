"""Which picture gets which corruption: policies that draw one, and the four test settings.

Every draw comes from the generator that the caller derives for the picture (test pictures: `test_generator`), in a
fixed order: one uniform number for clean or not (training only), one for the name, one for the severity, then what
`corrupt` draws. Each is drawn even where it decides nothing, so a picture under fog at severity 3 looks the same
whether fog and 3 were drawn, asked for by a condition, or are all that the policy holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from corruption.apply import check_severity, corrupt
from corruption.names import CORRUPTIONS, FAMILIES, check_name, nearest_hint
from utils.errors import UserError
from utils.seeds import derive_generator
from utils.structures import Condition, Protocol

_RANDOM = Condition("random")

# The settings of CIL-ReID: clean; both sides corrupted; one side corrupted.
PROTOCOLS = {
    "clean": Protocol("clean"),
    "corrupted": Protocol("corrupted", query=_RANDOM, gallery=_RANDOM),
    "corrupted_query": Protocol("corrupted_query", query=_RANDOM),
    "corrupted_gallery": Protocol("corrupted_gallery", gallery=_RANDOM),
}


def resolve_names(selection: Sequence[str]) -> tuple[str, ...]:
    """The corruptions that a selection stands for.

    Args:
        selection: any of "all", families (keys of FAMILIES) and names.

    Returns:
        Names in the published order, without duplicates.

    Raises:
        UserError: an entry is none of these; the message names the nearest.
    """
    if isinstance(selection, str):
        raise UserError(f"the selection of corruptions is {selection!r}; expected a list, e.g. ['{selection}']")
    chosen: set[str] = set()
    for entry in selection:
        if entry == "all":
            chosen.update(CORRUPTIONS)
        elif entry in FAMILIES:
            chosen.update(FAMILIES[entry])
        elif entry in CORRUPTIONS:
            chosen.add(entry)
        else:
            raise UserError(
                f"unknown corruption or family {entry!r}; {nearest_hint(entry, ('all', *FAMILIES, *CORRUPTIONS))}"
            )
    return tuple(name for name in CORRUPTIONS if name in chosen)


@dataclass(frozen=True)
class CorruptionPolicy:
    """How pictures are corrupted: the names and severities drawn from, the probability of staying clean, and the
    implementation (`corrupt`, backend)."""

    names: tuple[str, ...] = CORRUPTIONS
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    clean_prob: float = 0.0
    backend: str = "fast"

    def __post_init__(self) -> None:
        if not self.names:
            raise UserError("no corruption is selected; expected at least one name, family or 'all'")
        for name in self.names:
            check_name(name)
        if not self.severities:
            raise UserError("no severity is selected; expected at least one of 1 to 5")
        for severity in self.severities:
            check_severity(severity)
        if not 0 <= self.clean_prob <= 1:
            raise UserError(f"the probability of a clean picture is {self.clean_prob}; expected 0 to 1")

    def draw_type(self, rng: np.random.Generator) -> tuple[str, int]:
        """A name, then a severity, each with equal probability."""
        name = self.names[int(rng.random() * len(self.names))]
        return name, self.severities[int(rng.random() * len(self.severities))]

    def draw(self, rng: np.random.Generator) -> tuple[str, int] | None:
        """None (the picture stays clean) with probability `clean_prob`, otherwise (name, severity)."""
        stays_clean = rng.random() < self.clean_prob
        drawn = self.draw_type(rng)
        return None if stays_clean else drawn

    def apply(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws and corrupts: (H, W, 3) uint8 RGB in and out; the same array where the picture stays clean."""
        drawn = self.draw(rng)
        return image if drawn is None else corrupt(image, *drawn, rng, backend=self.backend)


def test_generator(seed: int, split: str, relative_path: str, repeat: int) -> np.random.Generator:
    """The generator of a test picture: what it looks like depends on these four alone.

    Args:
        seed: SEED of the configuration.
        split: "query" or "gallery".
        relative_path: path of the picture relative to the data root, with forward slashes.
        repeat: number of the draw, from 0.
    """
    return derive_generator(seed, split, relative_path, repeat)


def apply_condition(
    image: np.ndarray, condition: Condition, policy: CorruptionPolicy, rng: np.random.Generator
) -> np.ndarray:
    """A test picture as `condition` wants it.

    A name and a severity are drawn from the policy (its `clean_prob` plays no part), and give way to those that the
    condition fixes.

    Args:
        image: (H, W, 3) uint8 RGB, not modified.
        condition: "clean" (nothing is drawn), "random" or one of the 20 names; severity 0 for a drawn one.
        policy: names and severities to draw from.
        rng: the generator derived for this picture and repeat.

    Returns:
        The same array for "clean", otherwise a new one of the same shape.
    """
    if condition.is_clean:
        return image
    name, severity = policy.draw_type(rng)
    if condition.corruption != "random":
        name = condition.corruption
    return corrupt(image, name, condition.severity or severity, rng, backend=policy.backend)


def make_train_policy(cfg: Any) -> CorruptionPolicy:
    """The policy of training pictures: CORRUPTION.TRAIN, SEVERITIES and CLEAN_PROB."""
    return _make_policy(cfg, "TRAIN", cfg.CORRUPTION.CLEAN_PROB)


def make_test_policy(cfg: Any) -> CorruptionPolicy:
    """The policy of the corrupted test settings: CORRUPTION.TEST and SEVERITIES; no picture stays clean."""
    return _make_policy(cfg, "TEST", 0.0)


def _make_policy(cfg: Any, key: str, clean_prob: float) -> CorruptionPolicy:
    try:
        return CorruptionPolicy(resolve_names(cfg.CORRUPTION[key]), tuple(cfg.CORRUPTION.SEVERITIES), clean_prob)
    except UserError as error:
        raise UserError(f"CORRUPTION.{key}, CORRUPTION.SEVERITIES or CORRUPTION.CLEAN_PROB: {error}") from error


def make_protocols(cfg: Any) -> tuple[Protocol, ...]:
    """The test settings of TEST.PROTOCOLS, in that order, without duplicates."""
    names = cfg.TEST.PROTOCOLS
    if isinstance(names, str) or not names:
        raise UserError(f"TEST.PROTOCOLS is {names!r}; expected a list with at least one of {', '.join(PROTOCOLS)}")
    for name in names:
        if name not in PROTOCOLS:
            raise UserError(f"TEST.PROTOCOLS: unknown protocol {name!r}; {nearest_hint(name, PROTOCOLS)}")
    return tuple(PROTOCOLS[name] for name in dict.fromkeys(names))
