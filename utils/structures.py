"""The types that packages exchange: plain and frozen, without behaviour of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import torch


JUNK_PID = -1  # of gallery images that count neither as right nor as wrong


@dataclass(frozen=True)
class ImageRecord:
    """One image of a data set.

    Attributes:
        path: file.
        pid: identity; JUNK_PID for junk, 0 for distractors.
        camid: camera, from 0.
        viewid: viewpoint, from 0.
    """

    path: str
    pid: int
    camid: int
    viewid: int = 0


SPLIT_NAMES = ("train", "query", "gallery")


class Counts(NamedTuple):
    """Numbers of images and identities of a split; None where they are not published."""

    images: int | None
    identities: int | None

    def describe(self) -> str:
        """For messages: "12936 images of 751 identities"."""
        parts = (f"{count} {name}" for count, name in zip(self, self._fields, strict=True) if count is not None)
        return " of ".join(parts)


@dataclass(frozen=True)
class Sides:
    """Where the cameras and viewpoints of a data set begin among those of the training sets."""

    first_camera: int = 0
    first_view: int = 0


class SetNumbers(NamedTuple):
    """A data set as one of several, with the numbers that keep it apart from the others.

    Attributes:
        name: see DatasetSplits.
        num_cameras, num_views: of all its splits; 1 where they are not known.
        num_images: in training.
        is_training: DATASETS.NAMES names it, or DATASETS.TEST names no other test set.
    """

    name: str
    num_cameras: int
    num_views: int
    num_images: int = 0
    is_training: bool = True


@dataclass(frozen=True)
class DatasetSplits:
    """The images of a data set, split as published.

    Several training sets are one with the images of all in `train`: its pids are the class labels, and its cameras and
    viewpoints are numbered through, set by set. A validation set has held-back identities of a training set as `query`
    and `gallery`, and the name of the data set.

    Attributes:
        train, query, gallery: images, without junk.
        name: as in DATASETS.NAMES.
        root: directory that image paths are relative to when their corruptions are seeded.
        version: which of several published versions was read, e.g. "MSMT17_V2"; "" where there is only one.
        has_cameras: whether cameras are known. Without them all camids are 0, and only the query's own file is left out
            of its gallery.
        has_distractors: whether pid 0 marks distractors (Market-1501) and is not an identity.
        samples_gallery: whether `query` and `gallery` are all test images both, and every repeat of a test samples its
            own gallery, one image of each identity, and has the others as queries (VehicleID).
        common_pids: whether a pid is the same identity in training and in testing.
        pid_names: pid -> name of the identity, where the data set names identities; {} where it numbers them.
        published: published counts by split; {} where there are none.
        published_cameras: published number of cameras; 0 where there is none.
        is_training: see SetNumbers.
        is_validation: whether `query` and `gallery` are identities that were held back from the training set.
        parts: of several training sets, or where identities are held back, each training set, in the order of `train`;
            else ().
        tests: the test sets, where they are others than `query` and `gallery`; else ().
        validation: the validation set of each training set; () where none of its identities are held back.
    """

    train: tuple[ImageRecord, ...]
    query: tuple[ImageRecord, ...]
    gallery: tuple[ImageRecord, ...]
    name: str = ""
    root: str = ""
    version: str = ""
    has_cameras: bool = True
    has_distractors: bool = False
    samples_gallery: bool = False
    common_pids: bool = True
    pid_names: dict[int, str] = field(default_factory=dict)
    published: dict[str, Counts] = field(default_factory=dict)
    published_cameras: int = 0
    is_training: bool = True
    is_validation: bool = False
    parts: tuple[SetNumbers, ...] = ()
    tests: tuple[DatasetSplits, ...] = ()
    validation: tuple[DatasetSplits, ...] = ()

    def name_of(self, pid: int) -> str:
        """What names an identity in the data set itself; its pid may change when another identity is added."""
        return self.pid_names.get(pid, str(pid))

    @property
    def tested_name(self) -> str:
        """Name of what is tested on: "market1501", or "market1501 validation"."""
        return f"{self.name} validation" if self.is_validation else self.name

    @property
    def title(self) -> str:
        """Name and version, for messages and results."""
        return f"{self.tested_name} ({self.version})" if self.version else self.tested_name


@dataclass(frozen=True)
class Condition:
    """The corruption of a set of test images.

    Attributes:
        corruption: "clean"; the name of a corruption; "random": each image samples one of the configured names; or
            "unseen": each image samples one of ImageNet-C-bar.
        severity: 1 to 5, or 0: each image samples one of the configured severities.
    """

    corruption: str = "clean"
    severity: int = 0

    @property
    def is_clean(self) -> bool:
        return self.corruption == "clean"

    @property
    def is_sampled(self) -> bool:
        """Whether each image samples its own corruption."""
        return self.corruption in ("random", "unseen")


@dataclass(frozen=True)
class Protocol:
    """A test protocol: the conditions of the query set and of the gallery set.

    Attributes:
        name: "clean", "corrupted", "corrupted_query", "corrupted_gallery" or "unseen". A cell of the corruption matrix
            adds the corruption and the severity, "corrupted/fog/3".
        query, gallery: conditions.
    """

    name: str
    query: Condition = Condition()
    gallery: Condition = Condition()

    @property
    def is_clean(self) -> bool:
        return self.query.is_clean and self.gallery.is_clean

    @property
    def setting(self) -> str:
        """The protocol's name without the corruption and the severity of a cell."""
        return self.name.split("/")[0]

    @property
    def condition(self) -> Condition:
        """The condition of the corrupted side, or of both sides."""
        return self.gallery if self.query.is_clean else self.query


@dataclass(frozen=True)
class CorruptionSet:
    """The corruptions of the corrupted protocols, for results and for means over them.

    Attributes:
        backend: which implementation computes them.
        names: corruptions.
        severities: 1 to 5.
        families: family -> those of `names` in it; families without any are left out.
        seen: those of `names` in `trained`, or, where that is not known, in CORRUPTION.TRAIN of this configuration.
        trained: corruptions that the tested checkpoint was trained on; None: not known.
        protocol_unseen: corruptions of the protocol `unseen`; () where it is not tested.
    """

    backend: str = ""
    names: tuple[str, ...] = ()
    severities: tuple[int, ...] = ()
    families: dict[str, tuple[str, ...]] = field(default_factory=dict)
    seen: tuple[str, ...] = ()
    protocol_unseen: tuple[str, ...] = ()
    trained: tuple[str, ...] | None = None

    def tested_by(self, protocol: str) -> tuple[str, ...]:
        """The corruptions of a corrupted protocol, by name."""
        return self.protocol_unseen if protocol == "unseen" else self.names

    @property
    def unseen(self) -> tuple[str, ...]:
        """Those of `names` that are not `seen`."""
        return tuple(name for name in self.names if name not in self.seen)


@dataclass(frozen=True)
class DataBundle:
    """What make_dataloader returns.

    A batch is a dict: `images` (B, 3, H, W) uint8 RGB; `corrupted`, like `images`, where the stage needs it;
    `augmented` (B, 2, 3, H, W), two more views of `images`, with INPUT.SELF_ID; `pids`, `camids`, `viewids` (B,) int64;
    `paths`, a list of str.

    Attributes:
        splits: the data set.
        train: yields batches with class labels from 0 as `pids`; None without training data.
        test_loader: (split, condition, repeat) -> DataLoader of "query" or "gallery" in the order of `splits`. Its
            batches have the images under `condition` as `images`, and the data set's identities as `pids`.
        read_test_image: (split, index, condition, repeat) -> one test image at its own size, (H, W, 3) uint8 RGB.
        num_classes: identities of the training set.
        num_cameras, num_views: of all splits.
        corruptions: what the corrupted protocols sample from.
        sides: of the test images, among the cameras and viewpoints that the model knows; None: it knows none of them.
        tests: of each test set, where they are others than `query` and `gallery` of `splits`; else ().
        validation: of each validation set; () where none of the training identities are held back.
        sample_gallery: where `splits` samples its gallery: (repeat) -> (N,) bool, which of the N test images are the
            gallery of that repeat; the others are its queries. None where query and gallery are fixed.
        test_corruptions: (split, condition, repeat) -> name and severity of every test image's corruption, None for a
            clean one; None where they are not known.
    """

    splits: DatasetSplits
    train: Iterable | None
    test_loader: Callable[[str, Condition, int], Iterable]
    read_test_image: Callable[[str, int, Condition, int], np.ndarray]
    num_classes: int
    num_cameras: int
    num_views: int
    corruptions: CorruptionSet = CorruptionSet()
    sides: Sides | None = Sides()
    tests: tuple[DataBundle, ...] = ()
    validation: tuple[DataBundle, ...] = ()
    sample_gallery: Callable[[int], np.ndarray] | None = None
    test_corruptions: Callable[[str, Condition, int], list[tuple[str, int] | None]] | None = None

    @property
    def test_sets(self) -> tuple[DataBundle, ...]:
        """A bundle for each test set."""
        return self.tests or (self,)

    def on(self, split: str) -> DataBundle:
        """The bundle whose `test_sets` are those of `split`: "test", or "validation"."""
        return replace(self, tests=self.validation) if split == "validation" else self

    @property
    def numbers(self) -> SetNumbers:
        """Name and numbers of the data set."""
        splits = self.splits
        return SetNumbers(
            splits.name, self.num_cameras, self.num_views, len(splits.train), is_training=splits.is_training
        )

    def with_sides(self, sides: Sequence[Sides | None]) -> DataBundle:
        """The bundle with other `sides` for each of `test_sets`."""
        if not self.tests:
            return replace(self, sides=sides[0])
        return replace(self, tests=tuple(replace(data, sides=one) for data, one in zip(self.tests, sides, strict=True)))

    def with_trained(self, trained: tuple[str, ...] | None) -> DataBundle:
        """The bundle for a checkpoint that was trained on these corruptions; None, not known, changes nothing."""
        if trained is None:
            return self
        seen = tuple(name for name in self.corruptions.names if name in trained)
        tests = tuple(data.with_trained(trained) for data in self.tests)
        return replace(self, corruptions=replace(self.corruptions, trained=trained, seen=seen), tests=tests)


@dataclass(frozen=True)
class FeatureSet:
    """Features of a query or gallery set.

    Attributes:
        features: (N, D) float32.
        pids, camids: (N,) int64.
        paths: N files, or ().
    """

    features: torch.Tensor
    pids: np.ndarray
    camids: np.ndarray
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class RetrievalMetrics:
    """Retrieval metrics, fractions in [0, 1].

    Attributes:
        mAP, mINP: means over the queries that have a match.
        cmc: (max_rank,) float64; cmc[k - 1] is Rank-k.
        num_queries, num_valid_queries: queries, and those that have a match.
        repeats: the single results, where this is a mean over repeats.
        per_query: (Q, 3) float64: average precision, inverse negative penalty and rank of the first match of every
            query, zeros for a query without a match; None for a mean over repeats.
    """

    mAP: float
    mINP: float
    cmc: np.ndarray
    num_queries: int
    num_valid_queries: int
    repeats: tuple[RetrievalMetrics, ...] = ()
    per_query: np.ndarray | None = None

    def rank(self, k: int) -> float:
        """Rank-k; where the gallery has fewer than k entries, the last value of the curve."""
        return float(self.cmc[min(k, len(self.cmc)) - 1])


class Gaussian(NamedTuple):
    """Diagonal Gaussians over the bridge's latent space, L dimensions."""

    mean: torch.Tensor  # (B, L)
    log_var: torch.Tensor  # (B, L)


class BridgeOutput(NamedTuple):
    """Output of the bridge for unit features u (clean) and u~ (corrupted); docs/method.md defines the symbols."""

    clean: torch.Tensor  # u, (B, D)
    clean_reconstruction: torch.Tensor  # D(E(u)), (B, D)
    corrupted_reconstruction: torch.Tensor  # D(E(u~)), (B, D)
    clean_latent: Gaussian  # q(.|u)
    corrupted_latent: Gaussian  # q(.|u~)
    bridge_latent: Gaussian  # q(.|m_t)
    reconstruction_logits: torch.Tensor | None = None  # classifier on the neck of D(E(u~)), (B, C)


class ModelOutput(NamedTuple):
    """Output of a training forward. N = B, or 2B (corrupted views first) where the identity losses use both views."""

    embedding: torch.Tensor  # (N, D) class token after the last LayerNorm, before the neck
    features: torch.Tensor  # (N, D) after the neck
    logits: torch.Tensor | None  # (N, C)
    patch_tokens: torch.Tensor | None = None  # (N, P, D)
    clean_embedding: torch.Tensor | None = None  # (B, D) the teacher's z: what is aligned
    clean_logits: torch.Tensor | None = None  # (B, C) the teacher's
    clean_patch_tokens: torch.Tensor | None = None  # (B, P, D) the teacher's
    corrupted_embedding: torch.Tensor | None = None  # (B, D) the student's z~, likewise
    corrupted_logits: torch.Tensor | None = None  # (B, C) the student's
    corrupted_patch_tokens: torch.Tensor | None = None  # (B, P, D) the student's
    bridge: BridgeOutput | None = None
    local_embeddings: tuple[torch.Tensor, ...] = ()  # of the jigsaw patch module's parts, (N, D) each, before the necks
    local_features: tuple[torch.Tensor, ...] = ()  # (N, D) each, after the necks
    local_logits: tuple[torch.Tensor, ...] = ()  # (N, C) each
    augmented_logits: torch.Tensor | None = None  # (V, B, C) of V augmented views of the B images


@dataclass
class TrainState:
    """Progress of training a stage. A training checkpoint keeps all fields but `stage` and `checkpoint`.

    Attributes:
        stage: name of the CFAT stage.
        epoch: epochs completed.
        step: steps completed of the next epoch.
        updates: steps completed in all; epochs may differ in length.
        checkpoint: the last file written for testing.
        best: highest mAP of an evaluation, the mean over `test_sets`; below 0 before the first one.
        history: lr at the end and mean loss terms of every epoch.
        evaluations: mAP of every protocol at the epochs that were evaluated.
        seconds: wall time of the steps, of all runs of the stage together.
        test_sets: names of what evaluations test on, see DatasetSplits.tested_name.
    """

    stage: str
    epoch: int = 0
    step: int = 0
    updates: int = 0
    checkpoint: str = ""
    best: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    test_sets: list[str] = field(default_factory=list)
