"""A loader of any images below a directory, for features without a data set (`test.py --images`)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch.utils.data import DataLoader
from yacs.config import CfgNode

from datasets.decoding import find_unreadable
from datasets.loaders import make_test_loaders
from datasets.readers.file_errors import FileErrors
from utils.errors import UserError
from utils.image_listing import check_directory, list_images, no_image_below
from utils.images import read_image
from utils.structures import Condition, DatasetSplits, ImageRecord


@dataclass(frozen=True)
class ImageLoader:
    """Images below a directory and, optionally, query images.

    Attributes:
        directory: as given.
        paths: of the images, relative to it, with forward slashes, sorted.
        loader: their clean batches in this order, as the test loaders of a DataBundle yield them; pids, camids and
            viewids are all 0.
        queries: paths of the query images.
        query_loader: their batches, None without any.
    """

    directory: str
    paths: tuple[str, ...]
    loader: DataLoader
    queries: tuple[str, ...] = ()
    query_loader: DataLoader | None = None


def make_query_loader(cfg: CfgNode, queries: Sequence[str]) -> DataLoader:
    """The clean batches of query images, in their order, read by this process.

    Raises:
        UserError: one of them is no image.
    """
    for query in queries:
        if not os.path.exists(query):
            raise UserError(f"query image {query!r}: no such file; expected the path of an image")
        read_image(query)
    records = tuple(ImageRecord(query, 0, 0) for query in queries)
    loaders = make_test_loaders(cfg, DatasetSplits(train=(), query=records, gallery=()))
    return replace(loaders, num_workers=0)("query", Condition(), 0)


def make_image_loader(cfg: CfgNode, directory: str, *, queries: Sequence[str] = ()) -> ImageLoader:
    """Lists the images below `directory`, of any size and mode, and makes their loader.

    Unless DATASETS.CHECK_IMAGES is False each is decoded first; a damaged one is an error or is left out, as
    DATASETS.ON_BAD_IMAGE says.

    Raises:
        UserError: the directory does not exist or has no image, an image is damaged, or a query is no image.
    """
    query_loader = make_query_loader(cfg, queries) if queries else None
    errors = FileErrors()
    paths = _list_readable(directory, errors, check=cfg.DATASETS.CHECK_IMAGES)
    errors.raise_if_errors(cfg.DATASETS.ON_BAD_IMAGE)
    if not paths:
        damaged = f" that can be read ({len(errors.messages)} are damaged)" if errors.messages else ""
        raise UserError(no_image_below(directory, damaged))
    splits = DatasetSplits(
        train=(),
        query=(),
        gallery=tuple(ImageRecord(os.path.join(directory, path), 0, 0) for path in paths),
        root=directory,
    )
    loaders = make_test_loaders(cfg, splits)
    return ImageLoader(
        directory=directory,
        paths=paths,
        loader=loaders("gallery", Condition(), 0),
        queries=tuple(queries),
        query_loader=query_loader,
    )


def _list_readable(directory: str, errors: FileErrors, *, check: bool) -> tuple[str, ...]:
    """Sorted paths of the images below `directory`; with `check`, of those that can be decoded."""
    check_directory(directory)
    paths = {os.path.join(directory, path): path for path in sorted(list_images(directory, errors.add))}
    unreadable = find_unreadable(paths) if check else {}
    errors.messages += unreadable.values()
    return tuple(path for place, path in paths.items() if place not in unreadable)
