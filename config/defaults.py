"""Every configuration key: its meaning and unit, its default, and the rule that a value must keep.

The defaults are CFAT on Market-1501 as released. Keys of the TransReID codebase keep their names; CORRUPTION and CFAT
are this project's own. A key takes values of its default's type; `key(default, rule)` narrows them down, and `path`
expands ~ and environment variables. config/reads.py lists the keys that only some experiments read.
"""

import re

from config.schema import (
    BELOW_ONE,
    NOT_EMPTY,
    POSITIVE,
    PROBABILITY,
    Rule,
    Section,
    at_least,
    each_once,
    flatten,
    in_order,
    key,
    list_of,
    one_of,
    path,
    some_of,
)
from utils.stages import STAGES

_SIDES = ("corrupted", "corrupted_query", "corrupted_gallery")
_WITH_FEATURES = tuple(name for name, stage in STAGES.items() if stage.has_identity_loss)
_DEVICE = Rule(
    "auto, cpu, cuda or cuda:N",
    lambda value: re.fullmatch(r"auto|cpu|cuda(:\d+)?", value) is not None,
    ("auto", "cuda"),
)
_IMAGE_SIZE = list_of("a height and a width of at least 16 pixels", lambda pixels: pixels >= 16, length=2)


def _has_group_pid(pattern: str) -> bool:
    try:
        return "pid" in re.compile(pattern).groupindex
    except (re.error, RecursionError, OverflowError):
        return False


_C = Section()

# The one seed: weights, sampling, augmentation and corruption derive from it.
_C.SEED = key(1234, at_least(0))
# Directory of config.yml, log.txt, checkpoints/, tensorboard/, results.json and results.csv.
_C.OUTPUT_DIR = path("logs/market1501/cfat", NOT_EMPTY)
# Keys of a file that are not known: error, or warn (leave them out; the log and results.json name them).
_C.UNKNOWN_KEYS = key("error", one_of("error", "warn"))
# The keys that were left out; UNKNOWN_KEYS warn sets it.
_C.LEFT_OUT_KEYS = key([], list_of("names of keys", bool))

# Keys that are given and that nothing in the run reads: warn, or ignore (in each job of a study, which warns itself).
_C.UNREAD_KEYS = key("warn", one_of("warn", "ignore"))

# ---------------------------------------------------------------- MODEL
_C.MODEL = Section()
# auto is cuda where there is a GPU, else cpu.
_C.MODEL.DEVICE = key("auto", _DEVICE)
# transformer: a backbone of the TransReID codebase or of its relatives; timm: any timm model; MODEL.TRANSFORMER_TYPE
# says which. resnet50_ibn_a: a ResNet-50 with instance normalisation beside batch normalisation.
_C.MODEL.NAME = key("transformer", one_of("transformer", "resnet50", "resnet50_ibn_a", "timm"))
# Vision transformer: vit_base_patch16_224_TransReID (width 768, depth 12), deit_small_patch16_224_TransReID (384, 12),
# vit_small_patch16_224_TransReID (768, 8), vit_tiny_patch16_128_TransReID (192, 6; for CPUs), vit_tiny_conv_patch16_128
# (the same behind early convolutions, which learn faster from random weights), or the timm name of any
# vision transformer with the same structure, e.g. vit_large_patch16_224 or the vit_small_patch16_224 (384, 12) of
# TransReID-SSL, PASS and PersonViT; swin_tiny|small|base_patch4_window7_224 (SOLIDER); ViT-B-16 (CLIP-ReID's image
# encoder). With MODEL.NAME timm, the name of any timm model.
_C.MODEL.TRANSFORMER_TYPE = key("vit_base_patch16_224_TransReID", NOT_EMPTY)
# Patch stride (rows, columns) in pixels; [16, 16], or smaller for overlapping patches, e.g. [12, 12]. With MODEL.NAME
# timm, [16, 16] is the stride of the model's own patches, whatever their size.
_C.MODEL.STRIDE_SIZE = key([16, 16], list_of("two strides of at least 1 pixel", lambda pixels: pixels >= 1, length=2))
# Initial weights: a file of the TransReID codebase, of its relatives, of timm or of torchvision, or a name of the
# Hugging Face hub: timm:NAME, hf-hub:OWNER/NAME or hf_hub:OWNER/NAME[/FILE]; "": random weights.
_C.MODEL.PRETRAIN_PATH = path("pretrained/jx_vit_base_p16_224-80ecf9dd.pth")
# Height and width in pixels of the images that PRETRAIN_PATH was trained on, for a file whose position embeddings fit
# several patch grids; [0, 0]: read from the file.
_C.MODEL.PRETRAIN_SIZE = key(
    [0, 0], list_of("a height and a width in pixels, or [0, 0]", lambda pixels: pixels >= 0, length=2)
)
# Patch grid of PRETRAIN_PATH where the file does not tell: its height over its width, e.g. 2 for a file trained on
# 256 x 128 images, 1 for square ones; 0: read from the file.
_C.MODEL.PRETRAIN_HW_RATIO = key(0, one_of(0, 1, 2))
# Which weights to read from a file with several models: the name of the entry or prefix, e.g. state_dict_ema or
# student; "": the trained weights rather than their moving average, of a self-distilled backbone the teacher.
_C.MODEL.CHECKPOINT_ENTRY = ""
# Side information embedding: a learned vector per camera and/or viewpoint, times SIE_COE, added to every token.
_C.MODEL.SIE_CAMERA = True
_C.MODEL.SIE_VIEW = False
_C.MODEL.SIE_COE = key(3.0, at_least(0))
# Drop probabilities: of the residual branches (stochastic depth; this in the last block, linear from 0 in the first),
# of activations, and of attention weights.
_C.MODEL.DROP_PATH = key(0.1, PROBABILITY)
_C.MODEL.DROP_OUT = key(0.0, PROBABILITY)
_C.MODEL.ATT_DROP_RATE = key(0.0, PROBABILITY)
# Jigsaw patch module of TransReID: the last block runs on the whole image and on each of DEVIDE_LENGTH patch groups,
# each with its own head.
_C.MODEL.JPM = False
# Shift the patches by SHIFT_NUM and shuffle them into SHUFFLE_GROUP groups before they are divided; False divides them
# in reading order.
_C.MODEL.RE_ARRANGE = True
_C.MODEL.SHIFT_NUM = key(5, at_least(1))
_C.MODEL.SHUFFLE_GROUP = key(2, at_least(1))
_C.MODEL.DEVIDE_LENGTH = key(4, at_least(1))
# Patch embedding by a stem of convolutions, batch and instance normalisation (TransReID-SSL's ICS stem).
_C.MODEL.STEM_CONV = False
# Global feature of a vision transformer: class_token; the patch tokens pooled, avg, max or avg_max (mean of the maxima
# of 4 consecutive ones each); or gem, the class token plus their generalised mean.
_C.MODEL.POOLING = key("class_token", one_of("class_token", "avg", "max", "avg_max", "gem"))
# Reduce the global feature to FEAT_DIM numbers by a linear layer before the neck (TransReID-SSL, SOLIDER).
_C.MODEL.REDUCE_FEAT_DIM = False
_C.MODEL.FEAT_DIM = key(512, at_least(1))
# Part tokens beside the class token (PASS); MULTI_NECK gives each part a neck and a classifier of its own, FEAT_FUSION
# joins the class token and the mean of the parts in the test feature: cat (side by side) or mean.
_C.MODEL.PART_TOKENS = False
_C.MODEL.MULTI_NECK = True
_C.MODEL.FEAT_FUSION = key("cat", one_of("cat", "mean"))
# Swin of SOLIDER: weight of semantic over appearance information in the features, from 0 to 1; 0.2 in all published
# commands (the default of that code is 1.0). -1: no semantic control, for ImageNet weights.
_C.MODEL.SEMANTIC_WEIGHT = key(0.2, Rule("a number from 0 to 1, or -1", lambda value: 0 <= value <= 1 or value == -1))
# resnet50: stride of the last stage.
_C.MODEL.LAST_STRIDE = key(1, one_of(1, 2))
# resnet50: generalised mean pooling with a learned exponent (AGW, CIL-ReID) in place of average pooling.
_C.MODEL.GEM_POOL = False
# resnet50: ReLU after the first convolution, as in torchvision; BoT and TransReID leave it out.
_C.MODEL.STEM_RELU = False
# resnet50: max pooling kernel of the stem: 3 with padding 1 (torchvision, BoT) or 2 without padding (the TransReID
# codebase, including CIL-ReID). A checkpoint of this project stores its own.
_C.MODEL.STEM_POOL = key(3, one_of(2, 3))
# Identity loss: softmax (a linear classifier), or a margin on cosines: arcface, cosface, amsoftmax (same as cosface),
# circle.
_C.MODEL.ID_LOSS_TYPE = key("softmax", one_of("softmax", "arcface", "cosface", "amsoftmax", "circle"))
# Metric loss: triplet (batch-hard) or wrtriplet (weighted regularised, AGW).
_C.MODEL.METRIC_LOSS_TYPE = key("triplet", one_of("triplet", "wrtriplet"))
_TRIPLET_ON = ("class_token", "neck")
# What the metric loss compares: class_token (the embedding before the neck), or neck (its outputs at unit length, which
# cannot shrink together).
_C.MODEL.TRIPLET_ON = key("class_token", one_of(*_TRIPLET_ON))
_C.MODEL.ID_LOSS_WEIGHT = key(1.0, at_least(0))
_C.MODEL.TRIPLET_LOSS_WEIGHT = key(1.0, at_least(0))
# Weight of the Jensen-Shannon consistency between an image and its two augmented views (INPUT.SELF_ID).
_C.MODEL.CONSISTENCY_LOSS_WEIGHT = key(12.0, at_least(0))
# Label smoothing of the identity loss with epsilon 0.1.
_C.MODEL.IF_LABELSMOOTH = False
# Triplet loss with soft margin log(1 + exp(d_p - d_n)) in place of the hinge with SOLVER.MARGIN.
_C.MODEL.NO_MARGIN = True
# Center loss, with SOLVER.CENTER_LOSS_WEIGHT and CENTER_LR.
_C.MODEL.IF_WITH_CENTER = False

# ---------------------------------------------------------------- INPUT
_C.INPUT = Section()
# Image size (height, width) in pixels.
_C.INPUT.SIZE_TRAIN = key([256, 128], _IMAGE_SIZE)
_C.INPUT.SIZE_TEST = key([256, 128], _IMAGE_SIZE)
# Probability of a horizontal flip in training.
_C.INPUT.PROB = key(0.5, PROBABILITY)
# Zero padding in pixels on every side before the random crop.
_C.INPUT.PADDING = key(10, at_least(0))
# Probability of random erasing.
_C.INPUT.RE_PROB = key(0.5, PROBABILITY)
# Content of an erased rectangle: normal (noise), soft (the image mixed with noise) or self (the image mixed with
# another part of itself); the mixing ratio is sampled from Beta(MIXING_COEFF).
_C.INPUT.ERASING_TYPE = key("normal", one_of("normal", "soft", "self"))
_C.INPUT.MIXING_COEFF = key([1.0, 1.0], list_of("two numbers above 0", POSITIVE.accepts, length=2))
# Mean and standard deviation of pixels in [0, 1], per RGB channel; applied inside the model.
_C.INPUT.PIXEL_MEAN = key([0.485, 0.456, 0.406], list_of("three numbers from 0 to 1", PROBABILITY.accepts, length=3))
_C.INPUT.PIXEL_STD = key([0.229, 0.224, 0.225], list_of("three numbers above 0", POSITIVE.accepts, length=3))
# The clean and the corrupted view share crop, flip and erasing (False: each has its own, as in the released code).
_C.INPUT.PAIRED_GEOMETRY = True
# CIL-ReID's consistent identity loss: two augmented views of every clean image, for which the classifier is trained to
# predict the same (MODEL.CONSISTENCY_LOSS_WEIGHT); in stages clean and corrupted.
_C.INPUT.SELF_ID = False
# AugMix, before the other augmentations: of the two augmented views with SELF_ID, else of every training image.
_C.INPUT.AUGMIX = False

# ---------------------------------------------------------------- DATASETS
_C.DATASETS = Section()
# Training sets, one or several: market1501, market1501_500k, cuhk03, msmt17, dukemtmc, occluded_duke, occluded_reid,
# veri, vehicleid (docs/data.md), synthetic; folder or csv for your own images (docs/own-data.md); or a corrupted
# copy (python -m corruption export): market1501-C, cuhk03-C, dukemtmc-C, occluded_duke-C, veri-C, synthetic-C.
# NAME:DIRECTORY reads a set below ROOT_DIR/DIRECTORY, e.g. folder:photos. docs/data.md#several-data-sets
_C.DATASETS.NAMES = path(["market1501"], each_once("one or more data sets, each once", bool))
# Test sets; []: those of NAMES.
_C.DATASETS.TEST = path([], each_once("data sets, each once", bool, optional=True))
# Directory that contains the data sets' own directories; for folder and csv, the directory that paths are relative to.
_C.DATASETS.ROOT_DIR = path("data", NOT_EMPTY)
# Refuse a data set whose counts (images, identities, cameras) are not the published ones; False only warns (subsets).
_C.DATASETS.CHECK_COUNTS = True
# Decode every image before the first batch, to find damaged files early. False saves that time.
_C.DATASETS.CHECK_IMAGES = True
# Damaged images, names that do not parse and list entries without an image: error, or skip (leave out, count and log).
_C.DATASETS.ON_BAD_IMAGE = key("error", one_of("error", "skip"))
# Share of the identities of each training set that is held back for validation: they are not trained on, and are query
# and gallery of their own, for SOLVER.EVAL_ON and TEST.SPLIT validation; 0: none. docs/training.md
_C.DATASETS.VALIDATION_SHARE = key(0.0, BELOW_ONE)
# Seed of which identities and queries these are: its own, so that runs with different SEEDs share them.
_C.DATASETS.VALIDATION_SEED = key(0, at_least(0))
_C.DATASETS.CUHK03 = Section()
# How the boxes were made.
_C.DATASETS.CUHK03.BOXES = key("detected", one_of("detected", "labeled"))
# Test protocol: 0 for the new one (767 and 700 identities), 1 to 20 for one of the classic splits (100 test identities;
# their CMC is TEST.CMC single_gallery_shot).
_C.DATASETS.CUHK03.CLASSIC_SPLIT = key(
    0, Rule("0 (the new protocol) or a classic split from 1 to 20", range(21).__contains__)
)
_C.DATASETS.MSMT17 = Section()
# auto: the version that is there.
_C.DATASETS.MSMT17.VERSION = key("auto", one_of("auto", "V1", "V2"))
# Add the validation set to the training set, as the TransReID codebase does.
_C.DATASETS.MSMT17.WITH_VAL = True
_C.DATASETS.VEHICLEID = Section()
# Test set, by its number of identities: 800 (small), 1600 (medium) or 2400 (large).
_C.DATASETS.VEHICLEID.TEST_SIZE = key(800, one_of(800, 1600, 2400))
# folder: directories of the sets, below ROOT_DIR. An empty QUERY is sampled from GALLERY; where TRAIN and GALLERY are
# the same directory, identities are sampled for training; where TRAIN holds QUERY and GALLERY, from those that both
# have; an empty TRAIN leaves a set for tests only.
_C.DATASETS.FOLDER = Section()
_C.DATASETS.FOLDER.TRAIN = path("train")
_C.DATASETS.FOLDER.QUERY = path("query")
_C.DATASETS.FOLDER.GALLERY = path("gallery", NOT_EMPTY)
# Regular expression for the path of an image below its directory (below TRAIN, where that holds QUERY and GALLERY),
# with the named groups pid and, optionally, camid and viewid.
_C.DATASETS.FOLDER.PATTERN = key(
    r"(?P<pid>[^/]+)/.+",
    Rule("a regular expression with a named group pid, e.g. (?P<pid>[^/]+)/(?P<camid>\\d+)_.*", _has_group_pid),
)
_C.DATASETS.CSV = Section()
# csv: the file, below ROOT_DIR, with columns path, pid and, optionally, camid, viewid and split.
_C.DATASETS.CSV.FILE = path("data.csv", NOT_EMPTY)
# Random splits of folder and csv: a seed of their own, so that runs with different SEEDs share the split, and the
# fraction of identities in the training set.
_C.DATASETS.SPLIT = Section()
_C.DATASETS.SPLIT.SEED = key(0, at_least(0))
_C.DATASETS.SPLIT.TRAIN_SHARE = key(0.5, Rule("a number above 0 and below 1", lambda value: 0 < value < 1))

# ---------------------------------------------------------------- DATALOADER
_C.DATALOADER = Section()
# Worker processes that read, corrupt and transform images; 0: the main process does. Results do not depend on it.
_C.DATALOADER.NUM_WORKERS = key(4, at_least(0))
# Cache of decoded images: none, or ram (memory that all processes of a machine share; each image is decoded once, and
# the size of the cache is logged first).
_C.DATALOADER.CACHE = key("none", one_of("none", "ram"))
# softmax_triplet: batches of P identities x NUM_INSTANCE images; softmax: images in random order.
_C.DATALOADER.SAMPLER = key("softmax_triplet", one_of("softmax_triplet", "softmax"))
# Images of each identity in a batch.
_C.DATALOADER.NUM_INSTANCE = key(8, at_least(1))
# Batches of several training sets: identities (sampled from all sets alike, so a large set has more of them; SAMPLER
# softmax: images) or sets (the same number of identities, or images, of every set; small sets are repeated).
_C.DATALOADER.BALANCE = key("identities", one_of("identities", "sets"))

# ---------------------------------------------------------------- SOLVER
_C.SOLVER = Section()
# SGD, Adam, AdamW, or the name of any optimizer of timm, e.g. lamb.
_C.SOLVER.OPTIMIZER_NAME = key("SGD", NOT_EMPTY)
# Epochs of a stage whose own MAX_EPOCHS is 0.
_C.SOLVER.MAX_EPOCHS = key(120, at_least(1))
# Learning rate after warm-up of a stage whose own BASE_LR is 0.
_C.SOLVER.BASE_LR = key(0.05, POSITIVE)
# Momentum of SGD; the released schedule uses none.
_C.SOLVER.MOMENTUM = key(0.0, BELOW_ONE)
# Nesterov momentum of SGD.
_C.SOLVER.NESTEROV = False
# Weight decay, and that of biases.
_C.SOLVER.WEIGHT_DECAY = key(1e-3, at_least(0))
_C.SOLVER.WEIGHT_DECAY_BIAS = key(1e-3, at_least(0))
# Learning rate of biases, as a multiple of BASE_LR.
_C.SOLVER.BIAS_LR_FACTOR = key(2.0, POSITIVE)
# Twice the learning rate for the classifier.
_C.SOLVER.LARGE_FC_LR = False
# Vision transformers and models of timm: each block's learning rate is that of the block above it times this, down to
# the patch embedding; 1: off.
_C.SOLVER.LAYER_DECAY = key(1.0, Rule("a number above 0 and at most 1", lambda value: 0 < value <= 1))
# Learning rate schedule: cosine (to 0.002 BASE_LR) or multistep (times GAMMA at the epochs of STEPS).
_C.SOLVER.SCHEDULER = key("cosine", one_of("cosine", "multistep"))
_C.SOLVER.STEPS = key([40, 70], list_of("epochs of at least 1", lambda epoch: epoch >= 1))
_C.SOLVER.GAMMA = key(0.1, POSITIVE)
# Linear warm-up over WARMUP_EPOCHS epochs: from WARMUP_FACTOR * BASE_LR for every parameter (base_lr; TransReID), or
# from WARMUP_FACTOR times the lr of each one (group_lr; BoT and CLIP-ReID), which differs for biases with a
# BIAS_LR_FACTOR other than 1.
_C.SOLVER.WARMUP_FROM = key("base_lr", one_of("base_lr", "group_lr"))
_C.SOLVER.WARMUP_FACTOR = key(0.01, PROBABILITY)
_C.SOLVER.WARMUP_EPOCHS = key(5, at_least(0))
# Hinge margin of the triplet loss where MODEL.NO_MARGIN is False.
_C.SOLVER.MARGIN = key(0.3, at_least(0))
# Makes batch-hard triplets harder: distances to positives times 1 + this, to negatives times 1 - this.
_C.SOLVER.HARD_FACTOR = key(0.0, BELOW_ONE)
# Margin and scale of the identity losses on cosines. The papers' margins: arcface 0.5, cosface and amsoftmax 0.35,
# circle 0.25 (with a scale of 256).
_C.SOLVER.COSINE_MARGIN = key(0.5, at_least(0))
_C.SOLVER.COSINE_SCALE = key(30.0, POSITIVE)
# Weight of the center loss, and the learning rate of the centers, which does not depend on that weight and stays
# constant. 0.5 suits SGD; Adam and AdamW move every coordinate by the learning rate itself, 0.01 suits them.
_C.SOLVER.CENTER_LOSS_WEIGHT = key(5e-4, POSITIVE)
_C.SOLVER.CENTER_LR = key(0.5, at_least(0))
# Images in a training batch.
_C.SOLVER.IMS_PER_BATCH = key(64, at_least(1))
# Mixed precision of the backbone: auto (bf16 on a GPU that has it, else fp16 on a GPU, off on a CPU), bf16, fp16 (with
# a loss scale) or off. Heads, losses and distances are always in float32, and attention on a CPU.
_C.SOLVER.AMP = key("auto", one_of("auto", "bf16", "fp16", "off"))
# torch.compile the backbone.
_C.SOLVER.COMPILE = False
# Clip the norm of the model's gradient to this; 0: off. The centers of the center loss are not clipped.
_C.SOLVER.GRAD_CLIP = key(0.0, at_least(0))
# Recompute each block in backward: less memory for larger batches, one more forward pass; transformers, and models
# of timm without BatchNorm.
_C.SOLVER.GRAD_CHECKPOINT = False
# Decay of an exponential moving average of the weights, which is then tested and saved, e.g. 0.999; 0: off.
_C.SOLVER.EMA_DECAY = key(0.0, BELOW_ONE)
# Several processes: losses see the batch of all processes; False: each sees its own shard, and gradients are averaged.
_C.SOLVER.GLOBAL_LOSS = True
# Bit-identical weights from the same seed on a GPU too, slower. On a CPU they always are, with the same number of
# threads (OMP_NUM_THREADS).
_C.SOLVER.DETERMINISTIC = False
# auto: resume the run in OUTPUT_DIR where it stopped, if everything that determines its weights is the same
# (utils/stage_identity.py); "": train from the beginning.
_C.SOLVER.RESUME = key("", one_of("", "auto"))
# Steps between two lines of the log.
_C.SOLVER.LOG_PERIOD = key(50, at_least(1))
# Epochs between two evaluations (one repeat; the best is kept; not in stage bridge, which does not change the tested
# features) and between two checkpoints; 0: at the end only.
_C.SOLVER.EVAL_PERIOD = key(0, at_least(0))
_C.SOLVER.CHECKPOINT_PERIOD = key(0, at_least(0))
# What these evaluations, and so the best checkpoint, use: test (the test sets) or validation (the identities that
# DATASETS.VALIDATION_SHARE holds back).
_C.SOLVER.EVAL_ON = key("test", one_of("test", "validation"))

# ---------------------------------------------------------------- TEST
_C.TEST = Section()
# Checkpoint that test.py evaluates.
_C.TEST.WEIGHT = path("")
# What is tested on: test (the test sets) or validation (the identities that DATASETS.VALIDATION_SHARE holds back; where
# it is 0, test.py takes it from the checkpoint). For tuning: results say it.
_C.TEST.SPLIT = key("test", one_of("test", "validation"))
# Earlier stages that train.py tests too, each in OUTPUT_DIR/STAGE, beside the last one in tables and report: [clean]
# shows what alignment gained. Each is one of CFAT.STAGES or has its CFAT.<STAGE>.WEIGHT.
_C.TEST.STAGES = key(
    [],
    each_once(
        f"some of {', '.join(_WITH_FEATURES)}, each once, or none",
        _WITH_FEATURES.__contains__,
        _WITH_FEATURES,
        optional=True,
    ),
)
# Images in a test batch.
_C.TEST.IMS_PER_BATCH = key(128, at_least(1))
# Test feature: patch_mean (mean of the patch tokens), class_token (input of the neck: the class token, or a ResNet's
# pooled features) or neck (output of the neck). JPM appends its local features to the last two and has no patch_mean; a
# ResNet has no patch_mean either.
_C.TEST.FEATURE = key("patch_mean", one_of("patch_mean", "class_token", "neck"))
# Test features are the mean of those of the image and of its mirror image, before FEAT_NORM.
_C.TEST.FLIP = False
# Average query expansion: the feature of each query becomes the mean of its own and those of its k nearest gallery
# images, at its own norm; before re-ranking; 0: off.
_C.TEST.QUERY_EXPANSION = key(0, at_least(0))
# Divide test features by their Euclidean norm.
_C.TEST.FEAT_NORM = True
# Test protocols; also unseen: query and gallery corrupted by the types of ImageNet-C-bar, which CORRUPTION.TRAIN must
# leave out, at CORRUPTION.SEVERITIES.
_C.TEST.PROTOCOLS = key(["clean", *_SIDES], some_of(("clean", *_SIDES, "unseen")))
# Repeats of the corrupted protocols, each with its own corruptions; results are mean and standard deviation over them.
_C.TEST.REPEATS = key(10, at_least(1))
# Corruption matrix, every type of CORRUPTION.TEST at every severity on its own: "" (off) or what is corrupted:
# corrupted, corrupted_query (far cheaper for a large gallery) or corrupted_gallery. Protocol clean is always tested
# with it, also where PROTOCOLS leaves it out.
_C.TEST.MATRIX = key("", one_of("", *_SIDES))
# Repeats of every cell of the matrix.
_C.TEST.MATRIX_REPEATS = key(1, at_least(1))
# Distance of test features: euclidean or cosine (the same ranking where FEAT_NORM is True).
_C.TEST.METRIC = key("euclidean", one_of("euclidean", "cosine"))
# Average precision: step, the field's usual one, or trapezoid, that of Market-1501's official script.
_C.TEST.AP = key("step", one_of("step", "trapezoid"))
# CMC: standard, or single_gallery_shot, CUHK03's classic protocol (one random image of every gallery identity).
_C.TEST.CMC = key("standard", one_of("standard", "single_gallery_shot"))
# k-reciprocal re-ranking. K1 20 and K2 6 are the paper's for Market-1501, which BoT, TransReID-SSL, PASS and SOLIDER
# share; files of TransReID, PersonViT and CLIP-ReID mean K1 50 and K2 15, as in their code.
_C.TEST.RE_RANKING = False
_C.TEST.RE_RANKING_K1 = key(20, at_least(1))
_C.TEST.RE_RANKING_K2 = key(6, at_least(1))
# Weight of the original distance in the re-ranked one.
_C.TEST.RE_RANKING_LAMBDA = key(0.3, PROBABILITY)
# Write report.html, one page with all of a test, and report_data.json, what it is made from.
_C.TEST.REPORT = True
# Write the features of the first repeat of every tested set, with identities, cameras and paths, to features/*.npz.
_C.TEST.SAVE_FEATURES = False
# Precision of features in files: of SAVE_FEATURES, and of features.npz of test.py --images.
_C.TEST.FEATURE_DTYPE = key("float32", one_of("float32", "float16"))
# Write thresholds.csv: distances below which two images show the same identity, at the equal error rate and at three
# false accept rates.
_C.TEST.THRESHOLDS = False
# Queries shown in ranked_list.png, clean and corrupted; 0: none.
_C.TEST.RANKED_QUERIES = key(0, at_least(0))
# Queries shown in attention.png, the attention of a vision transformer's class token, clean and corrupted; 0: none.
_C.TEST.ATTENTION_QUERIES = key(0, at_least(0))
# Export the model that computes the test feature to this file: .onnx, or .pt2 for torch.export.
_C.TEST.EXPORT = path(
    "", Rule('a file name ending in .onnx or .pt2, or ""', lambda name: not name or name.endswith((".onnx", ".pt2")))
)
# Directories with a results.json to show beside these results in the final table.
_C.TEST.COMPARE = path([], list_of("directories, none of them empty", bool))
# A results.json, or its directory, whose errors (1 - mAP, ...) those of this test are divided by; with a corruption
# matrix in both, to mCE and relative mCE. "" for none.
_C.TEST.BASELINE = path("")

# ---------------------------------------------------------------- CORRUPTION
_C.CORRUPTION = Section()
# Corruption types of training and of the corrupted test protocols: "all", the 20 of the benchmark, or names and
# families (noise, blur, weather, digital; beyond the 20: bar, surveillance), e.g. ["noise", "rain"]. TEST also accepts
# "seen", the types of TRAIN, and "unseen", the rest of the 20.
_C.CORRUPTION.TRAIN = key(["all"], each_once("all, or one or more corruptions and families, each once", bool))
_C.CORRUPTION.TEST = key(
    ["all"], each_once("all, or one or more corruptions and families, seen and unseen, each once", bool)
)
# Severities to sample from, 1 to 5.
_C.CORRUPTION.SEVERITIES = key(
    [1, 2, 3, 4, 5], each_once("one or more severities from 1 to 5, each once", range(1, 6).__contains__)
)
# Probability that a training image stays clean; released: one of the 20 or none.
_C.CORRUPTION.CLEAN_PROB = key(1 / 21, PROBABILITY)
# Implementation: fast (compiled), or imagecorruptions (the published code). From one seed the two give different
# images, which agree in distribution. Where the extension is not built, fast falls back to imagecorruptions, with a
# warning.
_C.CORRUPTION.BACKEND = key("fast", one_of("fast", "imagecorruptions"))

# ---------------------------------------------------------------- CFAT
_C.CFAT = Section()
# Stages that train.py runs, in this order.
_C.CFAT.STAGES = key(list(STAGES), in_order(tuple(STAGES)))
# Stage that make_dataloader, make_model, make_loss and make_optimizer build for; "": the last of STAGES. train.py sets
# it.
_C.CFAT.STAGE = key("", one_of("", *STAGES))


def _stage() -> Section:
    """Epochs and learning rate of a stage (0: those of SOLVER); WEIGHT, a checkpoint used in place of training it."""
    return Section(MAX_EPOCHS=key(0, at_least(0)), BASE_LR=key(0.0, at_least(0)), WEIGHT=path(""))


_C.CFAT.CLEAN = _stage()
_C.CFAT.CORRUPTED = _stage()
_C.CFAT.BRIDGE = _stage()
_C.CFAT.ALIGN = _stage()
# MODEL.TRIPLET_ON of a stage; "": that of MODEL.
for _section in (_C.CFAT.CLEAN, _C.CFAT.CORRUPTED, _C.CFAT.ALIGN):
    _section.TRIPLET_ON = key("", one_of("", *_TRIPLET_ON))
# Initial weights of stage corrupted: pretrained (MODEL.PRETRAIN_PATH) or clean (those of stage clean).
_C.CFAT.CORRUPTED.INIT = key("pretrained", one_of("pretrained", "clean"))
# Initial weights of the student in bridge and align: corrupted (stage 2) or teacher (stage 1).
_C.CFAT.STUDENT_INIT = key("corrupted", one_of("corrupted", "teacher"))
# Views that the student's identity terms see.
_C.CFAT.STUDENT_VIEWS = key("corrupted", one_of("corrupted", "both"))
# The teacher follows the student: each step makes it this times itself plus the rest of the student, less in the first
# steps, e.g. 0.99 in a short schedule, 0.999 in a long one; 1: frozen, as published.
_C.CFAT.TEACHER_DECAY = key(1.0, PROBABILITY)
# What is aligned: class_token (before the neck, as published) or neck (the neck's output, whose cosines spread).
_C.CFAT.ALIGN_ON = key("class_token", one_of("class_token", "neck"))

_C.CFAT.COARSE = Section()
# Weight d of the coarse term in the total loss; 0 leaves it out.
_C.CFAT.COARSE.WEIGHT = key(1.0, at_least(0))
# Temperature T.
_C.CFAT.COARSE.TEMPERATURE = key(0.5, POSITIVE)
# Stop the gradient through the per-anchor weight w_a (released: False).
_C.CFAT.COARSE.DETACH_WEIGHT = False
# Leave other images of the anchor's identity out of the sum over k (released: False).
_C.CFAT.COARSE.EXCLUDE_SAME_IDENTITY = False

_C.CFAT.FINE = Section()
# Weights a, b and c: identity and triplet terms on the reconstruction, bridge divergence, reconstruction.
_C.CFAT.FINE.IDENTITY_WEIGHT = key(1.0, at_least(0))
_C.CFAT.FINE.KL_WEIGHT = key(1.0, at_least(0))
_C.CFAT.FINE.RECONSTRUCTION_WEIGHT = key(1.0, at_least(0))
# Weight of the divergence to N(0, I) in stage bridge.
_C.CFAT.FINE.PRIOR_WEIGHT = key(1e-3, at_least(0))
# Widths of the autoencoder's hidden and latent layers.
_C.CFAT.FINE.HIDDEN_DIM = key(128, at_least(1))
_C.CFAT.FINE.LATENT_DIM = key(16, at_least(1))
# One bridge position t per batch (released) or per image.
_C.CFAT.FINE.BRIDGE_T = key("batch", one_of("batch", "image"))
# Standard deviation s of the Brownian noise on bridge points; variance s^2 t (1 - t). 0: none.
_C.CFAT.FINE.NOISE = key(0.0, at_least(0))
# The released form of the autoencoder (an unconstrained sigma, a sigmoid at the end), which its files (BB_*.pth) need.
_C.CFAT.FINE.RELEASED = False

_C.CFAT.COSINE = Section()
# Weights of 1 - cosine between teacher and student, on class tokens and (mean over positions) on patch tokens.
_C.CFAT.COSINE.CLASS_WEIGHT = key(0.0, at_least(0))
_C.CFAT.COSINE.PATCH_WEIGHT = key(0.0, at_least(0))

# Distillation: weight of the divergence of the student's class distribution from the teacher's, at this temperature.
_C.CFAT.LOGITS = Section()
_C.CFAT.LOGITS.WEIGHT = key(0.0, at_least(0))
_C.CFAT.LOGITS.TEMPERATURE = key(4.0, POSITIVE)
# Weight of the smooth L1 distance of the student's patch tokens to the teacher's, each channel standardised.
_C.CFAT.TOKENS = Section()
_C.CFAT.TOKENS.WEIGHT = key(0.0, at_least(0))

# Dotted name -> key, in the order above.
SCHEMA = flatten(_C)
