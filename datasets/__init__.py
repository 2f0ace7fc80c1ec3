"""Data sets: from files on disk to checked records, and from records to batches.

check              the package's part of a configuration, before anything is read
read_dataset       the data set that a configuration names, read and checked (readers/)
make_dataloader    its loaders for training and testing
make_image_loader  a loader of any images below a directory
read_training_set  the fingerprint of a training set, which checkpoints keep

Nothing is imported before it is used. Import `make_dataloader` from here: the file of that name holds nothing else for
others.
"""

import os

import lazy_loader

import utils  # noqa: F401  sets up the environment before torchvision or albumentations are imported

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would look for a newer version over the network

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "config_check": ["check"],
        "fingerprint": ["read_training_set"],
        "image_loader": ["make_image_loader"],
        "make_dataloader": ["make_dataloader"],
        "readers.registry": ["read_dataset"],
    },
)
