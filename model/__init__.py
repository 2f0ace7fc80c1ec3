"""Floor 1: models. make_model builds what a stage trains, load_start fills in weights, load_model reads a checkpoint.

vit: TransReID's backbone   reid: backbone, neck, classifier   bridge: the fine head   cfat: student, teacher and bridge
loading: weights from files   make_model: the factories
"""

from model.loading import check_start_files, load_start
from model.make_model import load_model, make_model

__all__ = ["check_start_files", "load_model", "load_start", "make_model"]
