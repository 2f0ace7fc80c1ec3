from .config_check import check
from .fingerprint import read_training_set
from .image_loader import make_image_loader, make_query_loader
from .make_dataloader import make_dataloader
from .readers.registry import read_dataset

__all__ = ["check", "make_dataloader", "make_image_loader", "make_query_loader", "read_dataset", "read_training_set"]
