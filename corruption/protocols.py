"""Which image gets which corruption: training and test policies, the test protocols, the corruption matrix.

All random numbers of an image come from the generator that the caller derives for it (test images: `test_generator`),
in a fixed order: one uniform number for clean or not (training only), one for the corruption, one for the severity,
then those of `corrupt`. Each is drawn even where it decides nothing, so an image under fog at severity 3 looks the
same whether fog and 3 were sampled, fixed by a condition, or the only ones of the policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from corruption.apply import check_severity, corrupt, resolve_backend
from corruption.names import (
    ALL_DESCRIPTIONS,
    ALL_FAMILIES,
    CORRUPTIONS,
    SEVERITIES,
    UNSEEN,
    check_name,
    nearest_hint,
)
from utils.errors import UserError
from utils.seeds import derive_generator
from utils.structures import Condition, CorruptionSet, Protocol

_RANDOM, _UNSEEN = Condition("random"), Condition("unseen")

# The protocols of CIL-ReID: clean; both sides corrupted; one side corrupted. Then both sides by ImageNet-C-bar.
PROTOCOLS = {
    "clean": Protocol("clean"),
    "corrupted": Protocol("corrupted", query=_RANDOM, gallery=_RANDOM),
    "corrupted_query": Protocol("corrupted_query", query=_RANDOM),
    "corrupted_gallery": Protocol("corrupted_gallery", gallery=_RANDOM),
    "unseen": Protocol("unseen", query=_UNSEEN, gallery=_UNSEEN),
}


@dataclass(frozen=True)
class CorruptionPolicy:
    """How images are corrupted.

    Attributes:
        names: corruptions to sample from.
        severities: severities to sample from.
        clean_prob: probability that an image stays clean.
        backend: see `corrupt`; after construction, the backend that is really used.
    """

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
            raise UserError(f"the probability of a clean image is {self.clean_prob}; expected 0 to 1")
        object.__setattr__(self, "backend", resolve_backend(self.backend))

    def sample_corruption(self, rng: np.random.Generator, names: Sequence[str] = ()) -> tuple[str, int]:
        """Samples a name, of `names` where there are any, then a severity, each uniformly."""
        names = names or self.names
        name = names[int(rng.random() * len(names))]
        return name, self.severities[int(rng.random() * len(self.severities))]

    def sample(self, rng: np.random.Generator) -> tuple[str, int] | None:
        """Samples (name, severity), or None, with probability `clean_prob`, where the image stays clean."""
        stays_clean = rng.random() < self.clean_prob
        sampled = self.sample_corruption(rng)
        return None if stays_clean else sampled

    def apply(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Samples and corrupts: (H, W, 3) uint8 RGB in and out; the same array where the image stays clean."""
        sampled = self.sample(rng)
        return image if sampled is None else corrupt(image, *sampled, rng, backend=self.backend)


def test_generator(seed: int, split: str, relative_path: str, repeat: int) -> np.random.Generator:
    """The generator of a test image; its corruption depends on these four values alone.

    Args:
        seed: SEED of the configuration.
        split: "query" or "gallery"; of a validation set "validation query" or "validation gallery".
        relative_path: path of the image relative to the data root, with forward slashes.
        repeat: number of the repeat, from 0.
    """
    return derive_generator(seed, split, relative_path, repeat)


def apply_condition(
    image: np.ndarray, condition: Condition, policy: CorruptionPolicy, rng: np.random.Generator
) -> np.ndarray:
    """Corrupts a test image as `condition` says.

    A name and a severity are sampled from the policy (`clean_prob` is ignored), the name from UNSEEN for "unseen";
    those that the condition fixes replace them.

    Args:
        image: (H, W, 3) uint8 RGB, not modified.
        condition: "clean" (nothing is sampled), "random", "unseen" or a corruption; severity 0 for a sampled one.
        policy: names and severities to sample from.
        rng: the generator derived for this image and repeat.

    Returns:
        The same array for "clean", otherwise a new one of the same shape.
    """
    sampled = sample_condition(condition, policy, rng)
    return image if sampled is None else corrupt(image, *sampled, rng, backend=policy.backend)


def sample_condition(
    condition: Condition, policy: CorruptionPolicy, rng: np.random.Generator
) -> tuple[str, int] | None:
    """The corruption and severity that `apply_condition` applies with these arguments; None for a clean image."""
    if condition.is_clean:
        return None
    name, severity = policy.sample_corruption(rng, UNSEEN if condition == _UNSEEN else ())
    if condition.corruption in ALL_DESCRIPTIONS:
        name = condition.corruption
    return name, condition.severity or severity


def check(cfg: Any) -> None:
    """Checks CORRUPTION.TRAIN, TEST, SEVERITIES, CLEAN_PROB and BACKEND, TEST.PROTOCOLS and TEST.MATRIX.

    Raises:
        UserError: an unknown name or backend, nothing selected, or a value out of range; names the key.
    """
    make_train_policy(cfg)
    make_test_policy(cfg)
    make_protocols(cfg)
    make_matrix(cfg)


def make_train_policy(cfg: Any) -> CorruptionPolicy:
    """The policy of training images: CORRUPTION.TRAIN, SEVERITIES, CLEAN_PROB and BACKEND."""
    return _make_policy(cfg, _train_names(cfg), cfg.CORRUPTION.CLEAN_PROB)


def make_test_policy(cfg: Any) -> CorruptionPolicy:
    """The policy of the corrupted protocols: CORRUPTION.TEST, SEVERITIES and BACKEND; no image stays clean."""
    seen = _train_names(cfg)
    try:
        names = resolve_names(cfg.CORRUPTION.TEST, seen=seen)
    except UserError as error:
        raise UserError(f"CORRUPTION.TEST: {error}") from error
    return _make_policy(cfg, names, 0.0)


def make_corruption_set(cfg: Any, policy: CorruptionPolicy) -> CorruptionSet:
    """Describes `policy`, the result of `make_test_policy`, for the results: its names by family and by seen/unseen."""

    def tested(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in policy.names if name in names)

    return CorruptionSet(
        backend=policy.backend,
        names=policy.names,
        severities=policy.severities,
        families={family: tested(members) for family, members in ALL_FAMILIES.items() if tested(members)},
        seen=tested(_train_names(cfg)),
        protocol_unseen=UNSEEN if "unseen" in cfg.TEST.PROTOCOLS else (),
    )


def make_protocols(cfg: Any) -> tuple[Protocol, ...]:
    """The protocols of TEST.PROTOCOLS, in that order, without duplicates.

    Raises:
        UserError: an unknown one, or `unseen` where CORRUPTION.TRAIN has corruptions of its own.
    """
    names = cfg.TEST.PROTOCOLS
    if isinstance(names, str) or not names:
        raise UserError(f"TEST.PROTOCOLS is {names!r}; expected a list with at least one of {', '.join(PROTOCOLS)}")
    for name in names:
        if name not in PROTOCOLS:
            raise UserError(f"TEST.PROTOCOLS: unknown protocol {name!r}; {nearest_hint(name, PROTOCOLS)}")
    seen = [name for name in _train_names(cfg) if name in UNSEEN]
    if "unseen" in names and seen:
        raise UserError(
            f"TEST.PROTOCOLS: protocol 'unseen' tests on corruptions of CORRUPTION.TRAIN: {', '.join(seen)}; leave the "
            "protocol out, or these out of training"
        )
    return tuple(PROTOCOLS[name] for name in dict.fromkeys(names))


def make_matrix(cfg: Any) -> tuple[Protocol, ...]:
    """The cells of the corruption matrix: every corruption of CORRUPTION.TEST at every one of CORRUPTION.SEVERITIES.

    In a cell, all images of the sides that the protocol TEST.MATRIX corrupts have this corruption at this severity.
    They are the images of that protocol with CORRUPTION.TEST and SEVERITIES reduced to the two.

    Returns:
        Protocols named "corrupted/fog/3", names in published order, severities rising; none where TEST.MATRIX is "".
    """
    if not cfg.TEST.MATRIX:
        return ()
    corrupted = [name for name, protocol in PROTOCOLS.items() if _RANDOM in (protocol.query, protocol.gallery)]
    if cfg.TEST.MATRIX not in corrupted:
        raise UserError(
            f"TEST.MATRIX: unknown protocol {cfg.TEST.MATRIX!r}; {nearest_hint(cfg.TEST.MATRIX, corrupted)}"
        )
    protocol, policy = PROTOCOLS[cfg.TEST.MATRIX], make_test_policy(cfg)
    cells = (Condition(name, severity) for name in policy.names for severity in sorted(policy.severities))
    return tuple(
        Protocol(
            f"{protocol.name}/{cell.corruption}/{cell.severity}",
            query=protocol.query if protocol.query.is_clean else cell,
            gallery=protocol.gallery if protocol.gallery.is_clean else cell,
        )
        for cell in cells
    )


def resolve_names(selection: Sequence[str], *, seen: Sequence[str] | None = None) -> tuple[str, ...]:
    """Resolves a selection of names and groups to the names of corruptions.

    Args:
        selection: any of "all" (CORRUPTIONS), families (keys of ALL_FAMILIES) and names; with `seen` also "seen" (these
            names) and "unseen" (the rest of CORRUPTIONS).
        seen: corruptions of training.

    Returns:
        Names in published order, those beyond the 20 last, without duplicates.

    Raises:
        UserError: an unknown entry, with the nearest known one; or "unseen" where training sees all.
    """
    if isinstance(selection, str):
        raise UserError(f"the selection of corruptions is {selection!r}; expected a list, e.g. ['{selection}']")
    groups = {"all": CORRUPTIONS, **ALL_FAMILIES, **{name: (name,) for name in ALL_DESCRIPTIONS}}
    if seen is not None:
        groups |= {"seen": tuple(seen), "unseen": tuple(name for name in CORRUPTIONS if name not in seen)}
    chosen: set[str] = set()
    for entry in selection:
        if entry in ("seen", "unseen") and seen is None:
            raise UserError(
                f"{entry!r} refers to the corruptions of training and is for CORRUPTION.TEST only; "
                f"expected any of {', '.join(groups)}"
            )
        if entry not in groups:
            raise UserError(f"unknown corruption or family {entry!r}; {nearest_hint(entry, groups)}")
        if not groups[entry]:
            raise UserError(
                f"{entry!r} selects nothing: CORRUPTION.TRAIN selects all 20 corruptions; "
                "leave some out of CORRUPTION.TRAIN, e.g. ['noise', 'blur'], or test on corruptions beyond them: 'bar'"
            )
        chosen.update(groups[entry])
    return tuple(name for name in ALL_DESCRIPTIONS if name in chosen)


def trained_types(selection: Sequence[str] | None) -> tuple[str, ...] | None:
    """The corruptions of a checkpoint's CORRUPTION.TRAIN; None where it is None or has names that are not known."""
    try:
        return None if selection is None else resolve_names(selection)
    except UserError:
        return None


def _train_names(cfg: Any) -> tuple[str, ...]:
    try:
        return resolve_names(cfg.CORRUPTION.TRAIN)
    except UserError as error:
        raise UserError(f"CORRUPTION.TRAIN: {error}") from error


def _make_policy(cfg: Any, names: tuple[str, ...], clean_prob: float) -> CorruptionPolicy:
    try:
        return CorruptionPolicy(names, tuple(cfg.CORRUPTION.SEVERITIES), clean_prob, cfg.CORRUPTION.BACKEND)
    except UserError as error:
        raise UserError(f"CORRUPTION: {error}") from error
