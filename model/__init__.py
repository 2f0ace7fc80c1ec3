"""Floor 1: models. make_model builds what a stage trains, load_initial_weights fills in weights, load_model reads a checkpoint.

Backbones: vit (TransReID's), vit_sizes (its sizes by name), resnet   Models: reid (backbone, neck, classifier), jigsaw
(JPM), bridge (the fine head), cfat (student, teacher and bridge)   make_model: the factories
Weights: pretrained (ImageNet starts), loading (what stages start from), file_config (what a checkpoint holds), strict
Training: training (parts of a batch, several processes), drop_path, ema
Looking inside and taking out: rollout, export
"""

import utils  # noqa: F401  first, for the environment
from model.ema import make_ema
from model.export import export_if_asked
from model.make_model import check_backbone as check
from model.make_model import check_weight, load_model, make_model
from model.weights.load import check_stages, initial_weight_files, load_initial_weights

__all__ = [
    "check",
    "check_stages",
    "check_weight",
    "export_if_asked",
    "initial_weight_files",
    "load_initial_weights",
    "load_model",
    "make_ema",
    "make_model",
]
