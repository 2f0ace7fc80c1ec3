"""Features of any images from Python, by a checkpoint alone, and images ranked by them.

    extractor = model.FeatureExtractor("checkpoint.pth")
    features = extractor(["a.jpg", "b.jpg"])                          # (2, D) float32
    indices, distances = extractor.rank("a.jpg", "gallery/", k=5)     # the 5 nearest images below gallery/

It is what `test.py --images` is on the command line, and gives the same numbers. As that file, and as no other of this
package, it reads the configuration itself.
"""

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from yacs.config import CfgNode

from config import load_cfg, load_stored_cfg
from model.reid import ReIDModel
from model.weights.load import check_weight, tested_model
from model.weights.model_file import model_in, own_config
from utils.checkpoints import load_checkpoint
from utils.devices import pick_device
from utils.errors import UserError
from utils.feature_files import StoredArray, is_feature_file, open_features
from utils.image_inputs import Images, Input, is_several, iterate_images
from utils.image_listing import image_paths
from utils.images import read_image
from utils.metrics.nearest import nearest
from utils.openmp import sharing_cores
from utils.preprocessing import TestTransform, as_float
from utils.progress import ProgressBar
from utils.stage_identity import weights_digest

TOP_K = 10  # images that `rank` gives by default
MAX_WORKERS = 8  # threads by default, at most
PREFETCHED = 2  # batches of images that are read ahead


class Ranking(NamedTuple):
    """The gallery images nearest to each query, nearest first; equal distances in the order of the gallery."""

    indices: np.ndarray  # (Q, k) int64, into the gallery
    distances: np.ndarray  # (Q, k) float32, Euclidean (not squared) or 1 - cosine, as TEST.METRIC says


class FeatureExtractor:
    """Computes the test features of images with the model in a checkpoint.

    Images are given as a path, a PIL image or a NumPy array (H, W, 3) of uint8 RGB; as a directory, whose images come
    in the order of utils.image_listing.image_paths; or as a list, a generator or another iterable of any of these, or
    an array (N, H, W, 3). They may have any size. Files are read as by `test.py`, and PIL images turned upright as
    files are, by their EXIF orientation.

    A checkpoint of this project keeps its configuration, which decides everything: the size of the images, the test
    feature, and whether features have unit norm. Of another file, such as TransReID's, the weights decide the
    architecture, and `config_file`, the YAML file that it was trained with, the rest; without one the defaults do. A
    model with side information adds the mean of its camera vectors to every image.

    Args:
        weight: the checkpoint.
        config_file: as of `test.py --config_file`; it is then read in place of the configuration in the checkpoint.
        opts: KEY VALUE KEY VALUE ... over both, e.g. ["TEST.FLIP", "True"].
        device: auto (cuda where there is a GPU, else cpu), cpu, cuda or cuda:N.
        batch_size: images of one forward pass.
        num_workers: threads that read files; None: one per processor, at most MAX_WORKERS.
        half: the backbone computes in half precision: bfloat16, or float16 on a GPU without it.
        progress: show a progress bar on a terminal.

    Attributes:
        weight: the checkpoint.
        model: the model, in eval mode.
        cfg: the configuration that was read, frozen.
        device: torch.device.
        size: height and width in pixels to which images are resized.
        metric: "euclidean" or "cosine", of `rank`.

    Raises:
        UserError: no such checkpoint, no re-identification model in it, a wrong key or an unknown device.
    """

    def __init__(
        self,
        weight: str | os.PathLike,
        *,
        config_file: str | os.PathLike | None = None,
        opts: Sequence[str] = (),
        device: str | torch.device = "auto",
        batch_size: int = 64,
        num_workers: int | None = None,
        half: bool = False,
        progress: bool = True,
    ) -> None:
        for name, number in (("batch_size", batch_size), ("num_workers", 1 if num_workers is None else num_workers)):
            if type(number) is not int or number < 1:
                raise UserError(f"FeatureExtractor: {name} is {number!r}, expected a whole number of at least 1")
        self.weight, self.batch_size, self.progress = os.fspath(weight), batch_size, progress
        self.num_workers = num_workers or min(os.cpu_count() or 1, MAX_WORKERS)
        opts = list(map(str, opts))
        if len(opts) % 2 == 0:  # otherwise a value is missing, and reading the configuration says so
            opts += ["MODEL.DEVICE", str(device)]
            opts += ["MODEL.SIE_CAMERA", "False", "MODEL.SIE_VIEW", "False"]  # these images have no camera
        self.cfg, model = _load(os.fspath(weight), config_file, opts)
        self.device = pick_device(self.cfg.MODEL.DEVICE)
        self.model: ReIDModel = model.to(self.device)
        self.size: tuple[int, int] = tuple(self.cfg.INPUT.SIZE_TEST)
        self.metric: str = self.cfg.TEST.METRIC
        self.half = half
        self._transform = TestTransform(self.size)

    @sharing_cores()
    def __call__(self, images: Images) -> np.ndarray:
        """Features (N, D) float32 of N images; one image gives (1, D), an empty list (0, D).

        Raises:
            UserError: an image that cannot be read, or an array that is none; the message says which one.
        """
        parts = list(self.stream(images))
        return np.concatenate(parts) if parts else np.zeros((0, self.feature_dim), np.float32)

    def stream(self, images: Images) -> Iterator[np.ndarray]:
        """Yields the features batch by batch, (n, D) float32, so that neither images nor features fill the memory."""
        if isinstance(images, str | os.PathLike) and os.path.isdir(images):
            images = image_paths(os.fspath(images))
        inputs = self._prepared(iterate_images(images))
        with contextlib.closing(inputs), self._bar(images) as bar:
            while batch := list(itertools.islice(inputs, self.batch_size)):
                names, tensors = zip(*batch, strict=True)
                features = self._extract(torch.stack(tensors))
                broken = ~np.isfinite(features).all(axis=1)
                if broken.any():
                    raise UserError(f"{names[int(broken.argmax())]}: its feature is not finite; the weights are broken")
                bar.update(len(batch))
                yield features

    def rank(self, query: Images, gallery: Images, k: int | None = None) -> Ranking:
        """The `k` gallery images nearest to each query.

        Args:
            query, gallery: images; or features of floats that this extractor computed before: an array or tensor (N, D)
                or (D,), a list of (D,), or a .npz or .npy file, which is read by blocks and may be larger than the
                memory.
            k: as many for each query; None: 10, or all of a smaller gallery.

        Raises:
            UserError: see `__call__`; or `k` is larger than the gallery.
        """
        query_features, gallery_features = np.asarray(self._features(query)[:]), self._features(gallery)
        k = min(TOP_K, len(gallery_features)) if k is None else k
        found = nearest(query_features, gallery_features, k, metric=self.metric)
        return Ranking(found.indices, found.distances.astype(np.float32))

    def _features(self, side: Any) -> np.ndarray | StoredArray:
        if is_feature_file(side):
            file = open_features(side)
            digest = file.text("weights_sha256")
            if digest and digest != weights_digest(self.weight):
                raise UserError(
                    f"{file.path}: its features are of other weights than those in {self.weight}; distances between "
                    "the two mean nothing. Give the checkpoint that computed them, or compute them anew"
                )
            return file.features
        if isinstance(side, list | tuple) and side and all(map(_is_feature, side)):
            side = np.stack([np.asarray(feature) for feature in side])
        if _is_feature(side):
            side = side[None]
        is_features = isinstance(side, np.ndarray | torch.Tensor) and side.ndim == 2 and _is_float(side)
        return np.asarray(side) if is_features else self(side)

    @property
    def feature_dim(self) -> int:
        """D, the number of values of a feature."""
        return self._extract(torch.zeros(1, 3, *self.size, dtype=torch.uint8)).shape[1]

    @torch.inference_mode()
    def _extract(self, images: torch.Tensor) -> np.ndarray:
        """Features of images (N, 3, height, width) uint8."""
        with torch.autocast(self.device.type, _half_dtype(self.device), enabled=self.half):
            features = self.model.extract(as_float(images.to(self.device)))
        return features.float().cpu().numpy()

    def _prepared(self, inputs: Iterator[Input]) -> Generator[tuple[str, torch.Tensor], None, None]:
        """Yields the name of each image and what the model takes of it, (3, height, width) uint8, in their order.

        Threads read files ahead. Arrays are resized at once: the caller may write the next image to the same memory.
        """
        Image.init()  # PIL fills its list of formats on first use, which is not safe in threads
        pool = ThreadPoolExecutor(self.num_workers)
        waiting: deque[tuple[str, torch.Tensor | Future]] = deque()
        try:
            for image, name in inputs:
                if isinstance(image, str):
                    waiting.append((name, pool.submit(self._read, image)))
                else:
                    waiting.append((name, self._transform(image)))
                if len(waiting) > PREFETCHED * self.batch_size:
                    yield _finished(*waiting.popleft())
            while waiting:
                yield _finished(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _read(self, path: str) -> torch.Tensor:
        return self._transform(read_image(path))

    def _bar(self, images: Images) -> ProgressBar:
        total = 1 if not is_several(images) else len(images) if isinstance(images, Sized) else None
        return ProgressBar("features", total, hidden=not self.progress)


def _is_float(array: np.ndarray | torch.Tensor) -> bool:
    return array.is_floating_point() if isinstance(array, torch.Tensor) else array.dtype.kind == "f"


def _is_feature(side: Any) -> bool:
    """Whether it is one feature (D,)."""
    return isinstance(side, np.ndarray | torch.Tensor) and side.ndim == 1 and _is_float(side)


def _finished(name: str, sample: torch.Tensor | Future) -> tuple[str, torch.Tensor]:
    return name, sample.result() if isinstance(sample, Future) else sample


def _load(weight: str, config_file: str | os.PathLike | None, opts: list[str]) -> tuple[CfgNode, ReIDModel]:
    """Reads the checkpoint once: its configuration, then its model."""
    check_weight(weight)
    content = load_checkpoint(weight)
    stored = "" if config_file is not None else own_config(content, weight)
    if stored:
        cfg = load_stored_cfg(stored, f"checkpoint {weight}", opts)
    else:
        cfg = load_cfg(None if config_file is None else os.fspath(config_file), opts)
    file = model_in(content, weight, entry=cfg.MODEL.CHECKPOINT_ENTRY)
    return cfg, tested_model(cfg, file, ()).model


def _half_dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type != "cuda" or torch.cuda.is_bf16_supported() else torch.float16
