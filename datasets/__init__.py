"""Data sets: from files on disk to checked records, and from records to batches.

check              the package's part of a configuration, before anything is read
read_dataset       the data sets that a configuration names, read and checked (readers/)
make_dataloader    its loaders for training and testing
make_image_loader  a loader of any images below a directory; make_query_loader, of single ones
temporary_sets     makes what reading makes on first use in temporary directories
find_missing       what of these data sets is not there
read_training_set  the fingerprint of a training set, which checkpoints keep
match_validation   the share of validation identities that a checkpoint was trained without
check_validation   makes sure that a checkpoint was not trained on the validation identities

A name is imported on first use; `__init__.pyi` lists all names with their modules. Import `make_dataloader` from here:
importing the module of that name first would hide the function.
"""

import os

import lazy_loader

import utils  # noqa: F401  first: completes the environment of users whom the system does not know

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would look for a newer version over the network

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
