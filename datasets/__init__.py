"""Floor 2: from files to batches. make_dataloader builds them, read_dataset reads what is on disk,
make_picture_loader takes any directory of pictures.

market1501  reader              synthetic, ...  drawn pedestrians    corrupted_copy  reader of exported copies
transforms  geometry            samplers        batches              torch_datasets  pictures for torch
erasing     random erasing      augmix          AugMix
"""

from datasets.make_dataloader import make_dataloader, read_dataset
from datasets.picture_loader import make_picture_loader

__all__ = ["make_dataloader", "make_picture_loader", "read_dataset"]
