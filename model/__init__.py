"""Models of re-identification and of CFAT, and their weights from files.

make_model            the model that a stage trains, with random weights
load_initial_weights  the weights that it starts from; initial_weight_files lists their files; match_pretrained lets
                      those of MODEL.PRETRAIN_PATH decide the structure
load_model            the model in a checkpoint, for testing; check_weight checks that there is a file
load_tested_model     the same for several test sets
FeatureExtractor      features of any images by a checkpoint alone, and their ranking
make_ema              moving average of a model's weights
export_if_asked       the model as an ONNX or torch.export file
check, check_stages   check a stage's configuration, and the initial weights of all stages, without building anything

Backbones: vit (TransReID's; vit_sizes, patch_embed, pooling), resnet
Models: reid (backbone, heads), jigsaw (JPM), part_tokens (PASS), bridge (the fine head), cfat (student, teacher and
        bridge)
"""

import lazy_loader

import utils  # noqa: F401  first, for the environment

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
