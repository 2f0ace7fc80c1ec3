"""Pictures below a directory, whatever their names, for features without a data set."""

import os
from dataclasses import dataclass, replace

from torch.utils.data import DataLoader

from corruption import make_test_policy
from datasets.decoding import find_unreadable
from datasets.make_dataloader import TestLoaders
from datasets.readers.file_errors import FileErrors
from datasets.transforms import TestTransform
from utils.errors import UserError
from utils.images import read_image
from utils.listing import SUFFIXES, list_images
from utils.structures import Condition, DatasetSplits, ImageRecord


@dataclass(frozen=True)
class PictureLoader:
    """Pictures below a directory and, where it is asked for, a query picture.

    Attributes:
        directory: as given.
        paths: of the pictures, relative to it, with forward slashes, sorted.
        loader: their batches, clean and in this order, as the test loaders of a DataBundle give them; what stands there
            as identity, camera and viewpoint means nothing.
        query: path of the query picture, None without one.
        query_loader: one batch with it alone, None without one.
    """

    directory: str
    paths: tuple[str, ...]
    loader: DataLoader
    query: str | None = None
    query_loader: DataLoader | None = None


def make_image_loader(cfg, directory: str, *, query: str | None = None) -> PictureLoader:
    """Lists the pictures below `directory`, of any size and mode, and makes their loader.

    Unless DATASETS.CHECK_PICTURES is False each is decoded first; what is damaged is an error or is left out, as
    DATASETS.ON_BAD_IMAGE says.

    Raises:
        UserError: the directory is not there or has no picture, a picture is damaged, or `query` is no picture.
    """
    if query is not None:
        if not os.path.exists(query):
            raise UserError(f"query picture {query!r}: no such file; expected the path of a picture")
        read_image(query)
    faults = FileErrors()
    paths = _list_readable(directory, faults, check=cfg.DATASETS.CHECK_PICTURES)
    faults.raise_if_errors(cfg.DATASETS.ON_BAD_IMAGE)
    if not paths:
        damaged = f" that can be read ({len(faults.messages)} are damaged)" if faults.messages else ""
        raise UserError(f"{directory}: no picture below it{damaged}; expected files that end in {', '.join(SUFFIXES)}")
    loaders = TestLoaders(
        splits=DatasetSplits(
            train=(),
            query=() if query is None else (ImageRecord(query, 0, 0),),
            gallery=tuple(ImageRecord(os.path.join(directory, path), 0, 0) for path in paths),
            root=directory,
        ),
        transform=TestTransform(tuple(cfg.INPUT.SIZE_TEST)),
        policy=make_test_policy(cfg),
        batch_size=cfg.TEST.IMS_PER_BATCH,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        seed=cfg.SEED,
        read=read_image,
    )
    in_this_process = replace(loaders, num_workers=0)
    return PictureLoader(
        directory=directory,
        paths=paths,
        loader=loaders("gallery", Condition(), 0),
        query=query,
        query_loader=None if query is None else in_this_process("query", Condition(), 0),
    )


def _list_readable(directory: str, faults: FileErrors, *, check: bool) -> tuple[str, ...]:
    """Sorted paths of the pictures below `directory`; with `check`, of those that can be decoded."""
    if not os.path.isdir(directory):
        found = "is a file" if os.path.exists(directory) else "does not exist"
        raise UserError(f"{directory!r} {found}; expected a directory with pictures")
    paths = {os.path.join(directory, path): path for path in sorted(list_images(directory, faults.add))}
    unreadable = find_unreadable(paths) if check else {}
    for message in unreadable.values():
        faults.add(message)
    return tuple(path for place, path in paths.items() if place not in unreadable)
