from .config_check import check
from .fingerprint import read_training_set
from .image_loader import make_image_loader, make_query_loader
from .made_sets import temporary_sets
from .make_dataloader import make_dataloader
from .missing import find_missing
from .readers.registry import read_dataset
from .validation_checks import check_validation, match_validation

__all__ = [
    "check",
    "check_validation",
    "find_missing",
    "make_dataloader",
    "make_image_loader",
    "make_query_loader",
    "match_validation",
    "read_dataset",
    "read_training_set",
    "temporary_sets",
]
