"""Which picture gets which corruption: policies that draw one, the four test settings and the cells of the matrix.

Every draw comes from the generator that the caller derives for the picture (test pictures: `test_generator`), in a
fixed order: one uniform number for clean or not (training only), one for the name, one for the severity, then what
`corrupt` draws. Each is drawn even where it decides nothing, so a picture under fog at severity 3 looks the same
whether fog and 3 were drawn, asked for by a condition, or are all that the policy holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from corruption.apply import check_severity, corrupt, resolve_backend
from corruption.names import CORRUPTIONS, FAMILIES, SEVERITIES, check_name, nearest_hint
from utils.errors import UserError
from utils.seeds import derive_generator
from utils.structures import Condition, CorruptionSet, Protocol

_RANDOM = Condition("random")

# The settings of CIL-ReID: clean; both sides corrupted; one side corrupted.
PROTOCOLS = {
    "clean": Protocol("clean"),
    "corrupted": Protocol("corrupted", query=_RANDOM, gallery=_RANDOM),
    "corrupted_query": Protocol("corrupted_query", query=_RANDOM),
    "corrupted_gallery": Protocol("corrupted_gallery", gallery=_RANDOM),
}


def resolve_names(selection: Sequence[str], *, seen: Sequence[str] | None = None) -> tuple[str, ...]:
    """The corruptions that a selection stands for.

    Args:
        selection: any of "all", families (keys of FAMILIES) and names; with `seen` also "seen" (these names) and
            "unseen" (the rest of the 20).
        seen: names that training draws from.

    Returns:
        Names in the published order, without duplicates.

    Raises:
        UserError: an entry is none of these, and the message names the nearest; or nothing is unseen.
    """
    if isinstance(selection, str):
        raise UserError(f"the selection of corruptions is {selection!r}; expected a list, e.g. ['{selection}']")
    groups = {"all": CORRUPTIONS, **FAMILIES, **{name: (name,) for name in CORRUPTIONS}}
    if seen is not None:
        groups |= {"seen": tuple(seen), "unseen": tuple(name for name in CORRUPTIONS if name not in seen)}
    chosen: set[str] = set()
    for entry in selection:
        if entry in ("seen", "unseen") and seen is None:
            raise UserError(
                f"{entry!r} says what is trained with, so it stands in CORRUPTION.TEST only; "
                f"expected any of {', '.join(groups)}"
            )
        if entry not in groups:
            raise UserError(f"unknown corruption or family {entry!r}; {nearest_hint(entry, groups)}")
        if not groups[entry]:
            raise UserError(
                f"{entry!r} selects nothing: CORRUPTION.TRAIN stands for all 20 types; "
                "leave some out of CORRUPTION.TRAIN, e.g. ['noise', 'blur']"
            )
        chosen.update(groups[entry])
    return tuple(name for name in CORRUPTIONS if name in chosen)


@dataclass(frozen=True)
class CorruptionPolicy:
    """How pictures are corrupted: the names and severities drawn from, the probability of staying clean, and the
    implementation (`corrupt`, backend)."""

    names: tuple[str, ...] = CORRUPTIONS
    severities: tuple[int, ...] = SEVERITIES
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
        object.__setattr__(self, "backend", resolve_backend(self.backend))  # what is used, for the record

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
    """The policy of training pictures: CORRUPTION.TRAIN, SEVERITIES, CLEAN_PROB and BACKEND."""
    return _make_policy(cfg, _train_names(cfg), cfg.CORRUPTION.CLEAN_PROB)


def make_test_policy(cfg: Any) -> CorruptionPolicy:
    """The policy of the corrupted test settings: CORRUPTION.TEST, SEVERITIES and BACKEND; no picture stays clean."""
    seen = _train_names(cfg)
    try:
        names = resolve_names(cfg.CORRUPTION.TEST, seen=seen)
    except UserError as error:
        raise UserError(f"CORRUPTION.TEST: {error}") from error
    return _make_policy(cfg, names, 0.0)


def make_corruption_set(cfg: Any, policy: CorruptionPolicy) -> CorruptionSet:
    """What the corrupted test settings draw from, for the record: `policy` is what `make_test_policy` returned."""

    def tested(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in policy.names if name in names)

    return CorruptionSet(
        backend=policy.backend,
        names=policy.names,
        severities=policy.severities,
        families={family: tested(members) for family, members in FAMILIES.items() if tested(members)},
        seen=tested(_train_names(cfg)),
    )


def _train_names(cfg: Any) -> tuple[str, ...]:
    try:
        return resolve_names(cfg.CORRUPTION.TRAIN)
    except UserError as error:
        raise UserError(f"CORRUPTION.TRAIN: {error}") from error


def _make_policy(cfg: Any, names: tuple[str, ...], clean_prob: float) -> CorruptionPolicy:
    return CorruptionPolicy(names, tuple(cfg.CORRUPTION.SEVERITIES), clean_prob, cfg.CORRUPTION.BACKEND)


def make_protocols(cfg: Any) -> tuple[Protocol, ...]:
    """The test settings of TEST.PROTOCOLS, in that order, without duplicates."""
    names = cfg.TEST.PROTOCOLS
    if isinstance(names, str) or not names:
        raise UserError(f"TEST.PROTOCOLS is {names!r}; expected a list with at least one of {', '.join(PROTOCOLS)}")
    for name in names:
        if name not in PROTOCOLS:
            raise UserError(f"TEST.PROTOCOLS: unknown protocol {name!r}; {nearest_hint(name, PROTOCOLS)}")
    return tuple(PROTOCOLS[name] for name in dict.fromkeys(names))


def make_matrix(cfg: Any) -> tuple[Protocol, ...]:
    """The cells of the corruption matrix: every type of CORRUPTION.TEST at every one of CORRUPTION.SEVERITIES.

    In a cell, every picture of the corrupted sides of TEST.MATRIX has the one type at the one severity; the draws are
    those of that setting with CORRUPTION.TEST and SEVERITIES narrowed down to the two.

    Returns:
        Protocols named "corrupted/fog/3", types in published order, severities rising; none where TEST.MATRIX is "".
    """
    if not cfg.TEST.MATRIX:
        return ()
    setting = PROTOCOLS[cfg.TEST.MATRIX]
    policy = make_test_policy(cfg)
    cells = (Condition(name, severity) for name in policy.names for severity in sorted(policy.severities))
    return tuple(
        Protocol(
            f"{setting.name}/{cell.corruption}/{cell.severity}",
            query=setting.query if setting.query.is_clean else cell,
            gallery=setting.gallery if setting.gallery.is_clean else cell,
        )
        for cell in cells
    )
