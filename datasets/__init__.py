"""Floor 2: from files to batches. make_dataloader builds them, read_dataset reads what is on disk,
make_image_loader takes any directory of pictures.

Readers, by name in readers: market1501, cuhk03 (with cuhk03_mat), msmt17, folder and csv_list (with own_data),
synthetic (with figures, pictures, scenes, wardrobe), corrupted_copy
What they share: places (directories), faults (single files), records (counts), decoding (damaged pictures),
fingerprint (what of a training set determines weights)
Batches: samplers, torch_datasets, transforms, erasing, augmix, images, cache   The doctor: doctor
"""

import utils  # noqa: F401  first, for the environment
from datasets.fingerprint import read_training_set
from datasets.image_loader import make_image_loader
from datasets.make_dataloader import make_dataloader
from datasets.readers.registry import read_dataset

__all__ = ["check", "make_dataloader", "make_image_loader", "read_dataset", "read_training_set"]


def check(cfg) -> None:
    """Nothing to check before the data set is read."""
