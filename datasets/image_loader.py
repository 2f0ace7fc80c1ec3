"""A loader of any images below a directory, for features without a data set (`test.py --images`)."""

import os
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
    """Images below a directory and, optionally, a query image.

    Attributes:
        directory: as given.
        paths: of the images, relative to it, with forward slashes, sorted.
        loader: their clean batches in this order, as the test loaders of a DataBundle yield them; pids, camids and
            viewids are all 0.
        query: path of the query image, None without one.
        query_loader: one batch with the query alone, None without one.
    """

    directory: str
    paths: tuple[str, ...]
    loader: DataLoader
    query: str | None = None
    query_loader: DataLoader | None = None


def make_image_loader(cfg: CfgNode, directory: str, *, query: str | None = None) -> ImageLoader:
    """Lists the images below `directory`, of any size and mode, and makes their loader.

    Unless DATASETS.CHECK_IMAGES is False each is decoded first; a damaged one is an error or is left out, as
    DATASETS.ON_BAD_IMAGE says.

    Raises:
        UserError: the directory does not exist or has no image, an image is damaged, or `query` is no image.
    """
    if query is not None:
        if not os.path.exists(query):
            raise UserError(f"query image {query!r}: no such file; expected the path of an image")
        read_image(query)
    errors = FileErrors()
    paths = _list_readable(directory, errors, check=cfg.DATASETS.CHECK_IMAGES)
    errors.raise_if_errors(cfg.DATASETS.ON_BAD_IMAGE)
    if not paths:
        damaged = f" that can be read ({len(errors.messages)} are damaged)" if errors.messages else ""
        raise UserError(no_image_below(directory, damaged))
    splits = DatasetSplits(
        train=(),
        query=() if query is None else (ImageRecord(query, 0, 0),),
        gallery=tuple(ImageRecord(os.path.join(directory, path), 0, 0) for path in paths),
        root=directory,
    )
    loaders = make_test_loaders(cfg, splits)
    in_this_process = replace(loaders, num_workers=0)
    return ImageLoader(
        directory=directory,
        paths=paths,
        loader=loaders("gallery", Condition(), 0),
        query=query,
        query_loader=None if query is None else in_this_process("query", Condition(), 0),
    )


def _list_readable(directory: str, errors: FileErrors, *, check: bool) -> tuple[str, ...]:
    """Sorted paths of the images below `directory`; with `check`, of those that can be decoded."""
    check_directory(directory)
    paths = {os.path.join(directory, path): path for path in sorted(list_images(directory, errors.add))}
    unreadable = find_unreadable(paths) if check else {}
    errors.messages += unreadable.values()
    return tuple(path for place, path in paths.items() if place not in unreadable)
