"""The types that the rooms exchange: plain, frozen, without behaviour of their own."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch


@dataclass(frozen=True)
class ImageRecord:
    """One picture: `path`, identity `pid` (-1 junk, 0 distractor), camera `camid` and viewpoint `viewid` from 0."""

    path: str
    pid: int
    camid: int
    viewid: int = 0


SPLIT_NAMES = ("train", "query", "gallery")


class Counts(NamedTuple):
    """Images and identities of a split; None where nothing is published."""

    images: int | None
    identities: int | None

    def describe(self) -> str:
        parts = (f"{count} {name}" for count, name in zip(self, self._fields, strict=True) if count is not None)
        return " of ".join(parts)


@dataclass(frozen=True)
class DatasetSplits:
    """A read data set.

    Attributes:
        train, query, gallery: pictures; junk is left out.
        name: as DATASETS.NAMES has it.
        root: the directory that picture paths are relative to when their corruption is seeded.
        version: which of several published forms was read, e.g. "MSMT17_V2"; "" where there is only one.
        has_cameras: whether cameras are known; where they are not, all camids are 0, and the junk rule leaves out the
            query's own file alone.
        has_distractors: whether pid 0 stands for no one (Market-1501) and not for a person.
        common_pids: whether a pid means the same person in training and testing.
        published, published_cameras: counts of the splits as published, and cameras in all; {} and 0 where there are
            none.
    """

    train: tuple[ImageRecord, ...]
    query: tuple[ImageRecord, ...]
    gallery: tuple[ImageRecord, ...]
    name: str = ""
    root: str = ""
    version: str = ""
    has_cameras: bool = True
    has_distractors: bool = False
    common_pids: bool = True
    published: dict[str, Counts] = field(default_factory=dict)
    published_cameras: int = 0

    @property
    def title(self) -> str:
        """Name and version, for messages and results."""
        return f"{self.name} ({self.version})" if self.version else self.name


@dataclass(frozen=True)
class Condition:
    """How a set of test pictures looks.

    `corruption`: "clean", "random" (each picture draws one of the configured types) or one of the 20 names.
    `severity`: 1 to 5, or 0 for a draw from the configured severities, picture by picture.
    """

    corruption: str = "clean"
    severity: int = 0

    @property
    def is_clean(self) -> bool:
        return self.corruption == "clean"


@dataclass(frozen=True)
class Protocol:
    """A test setting: the condition of the query set and that of the gallery set.

    `name` is that of the setting, "corrupted"; in a cell of the corruption matrix the type and the severity follow,
    "corrupted/fog/3".
    """

    name: str
    query: Condition = Condition()
    gallery: Condition = Condition()

    @property
    def is_clean(self) -> bool:
        return self.query.is_clean and self.gallery.is_clean

    @property
    def setting(self) -> str:
        """The name of the setting, of a cell too."""
        return self.name.split("/")[0]

    @property
    def condition(self) -> Condition:
        """How the corrupted side looks, or both."""
        return self.gallery if self.query.is_clean else self.query


@dataclass(frozen=True)
class CorruptionSet:
    """The corruptions of the corrupted test settings, for the record and for the means over them.

    `backend` computes them. `families`: those of `names` in each family, families without any left out. `seen`: those
    of `names` that CORRUPTION.TRAIN stands for, the configuration's and not the checkpoint's.
    """

    backend: str = ""
    names: tuple[str, ...] = ()
    severities: tuple[int, ...] = ()
    families: dict[str, tuple[str, ...]] = field(default_factory=dict)
    seen: tuple[str, ...] = ()

    @property
    def unseen(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if name not in self.seen)


@dataclass(frozen=True)
class DataBundle:
    """What make_dataloader hands out.

    `train` yields batches, dicts of `images` (B, 3, H, W) uint8 RGB, `corrupted` (the same, where the stage needs it),
    `augmented` (B, 2, 3, H, W) (two further views of `images`, with INPUT.SELF_ID),
    `pids` (B,) int64 labels from 0, `camids`, `viewids` (B,) int64, `paths` (list of str); None without training data.
    `test_loader(split, condition, repeat)` yields the same for "query" or "gallery", in the order of `splits`, with the
    pictures under `condition` as `images` and the data set's own identities as `pids`; it is a DataLoader, whose
    `dataset[index]` is one sample.
    `read_test_image(split, index, condition, repeat)` gives one of them at its own size, (H, W, 3) uint8 RGB.
    `corruptions` says what the corrupted ones draw from.
    """

    splits: DatasetSplits
    train: Iterable | None
    test_loader: Callable[[str, Condition, int], Iterable]
    read_test_image: Callable[[str, int, Condition, int], np.ndarray]
    num_classes: int
    num_cameras: int
    num_views: int
    corruptions: CorruptionSet = CorruptionSet()


@dataclass(frozen=True)
class FeatureSet:
    """Features (N, D) float32 with identities and cameras (N,) int64 and the N paths."""

    features: torch.Tensor
    pids: np.ndarray
    camids: np.ndarray
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class RetrievalMetrics:
    """Retrieval results, fractions in [0, 1]; `cmc` (max_rank,) float64, cmc[k-1] is Rank-k.

    A mean over several draws keeps the single results in `repeats`.
    """

    mAP: float
    mINP: float
    cmc: np.ndarray
    num_queries: int
    num_valid_queries: int
    repeats: tuple["RetrievalMetrics", ...] = ()

    def rank(self, k: int) -> float:
        """Rank-k matching rate; where fewer than k gallery entries exist, the last value."""
        return float(self.cmc[min(k, len(self.cmc)) - 1])


class Gaussian(NamedTuple):
    """Diagonal Gaussians over the bridge's latent space: `mean` and `log_var` (B, L)."""

    mean: torch.Tensor
    log_var: torch.Tensor


class BridgeOutput(NamedTuple):
    """What the fine head computed from unit features u (clean) and u~ (corrupted); docs/method.md names the symbols."""

    clean: torch.Tensor  # u, (B, D)
    clean_reconstruction: torch.Tensor  # D(E(u)), (B, D)
    corrupted_reconstruction: torch.Tensor  # D(E(u~)), (B, D)
    clean_latent: Gaussian  # q(.|u)
    corrupted_latent: Gaussian  # q(.|u~)
    bridge_latent: Gaussian  # q(.|m_t)
    reconstruction_logits: torch.Tensor | None = None  # classifier on the neck of D(E(u~)), (B, C)


class ModelOutput(NamedTuple):
    """A training forward. N = B, or 2B (corrupted views first) where the identity terms see both views."""

    embedding: torch.Tensor  # (N, D) class token after the last LayerNorm, before the neck
    features: torch.Tensor  # (N, D) after the neck
    logits: torch.Tensor | None  # (N, C)
    patch_tokens: torch.Tensor | None = None  # (N, P, D)
    clean_embedding: torch.Tensor | None = None  # (B, D) the teacher's z
    clean_patch_tokens: torch.Tensor | None = None  # (B, P, D) the teacher's
    corrupted_embedding: torch.Tensor | None = None  # (B, D) the student's z~
    corrupted_patch_tokens: torch.Tensor | None = None  # (B, P, D) the student's
    bridge: BridgeOutput | None = None
    local_embeddings: tuple[torch.Tensor, ...] = ()  # of the jigsaw patch module's parts, (N, D) each, before the necks
    local_features: tuple[torch.Tensor, ...] = ()  # after them
    local_logits: tuple[torch.Tensor, ...] = ()  # (N, C) each
    augmented_logits: torch.Tensor | None = None  # (V, B, C) of V augmented views of the B pictures


@dataclass
class TrainState:
    """Where a training run stands; all but `stage` and `checkpoint` is kept in the checkpoints that a run goes on from.

    Attributes:
        stage: of CFAT.
        epoch, step: whole epochs done, and steps done of the next one.
        updates: steps done in all; epochs may differ in length.
        checkpoint: the last file written for testing.
        history: mean loss terms of every epoch.
        evaluations: mAP of every test setting at the epochs that were evaluated.
        best: the mAP of the best of them, below 0 before the first.
    """

    stage: str
    epoch: int = 0
    step: int = 0
    updates: int = 0
    checkpoint: str = ""
    best: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
