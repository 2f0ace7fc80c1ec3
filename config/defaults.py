"""Every configuration key: meaning, unit and options. The defaults are CFAT on Market-1501 as released.

Names of the TransReID family are kept where the family has the key. CORRUPTION and CFAT are this project's own.
Read it with `config.load_cfg`; nothing else touches these objects. ~, $NAME and ${NAME} in paths are expanded
(config/values.py, PATH_KEYS); config/reads.py lists the keys that only some experiments read.
"""

from yacs.config import CfgNode as CN

_C = CN()

# The one seed: weights, sampling, augmentation and corruption derive from it.
_C.SEED = 1234
# Directory of config.yml, log.txt, checkpoints/, tensorboard/, results.json and results.csv.
_C.OUTPUT_DIR = "logs/market1501/cfat"

# ---------------------------------------------------------------- MODEL
_C.MODEL = CN()
# auto (cuda where there is one), cpu, cuda or cuda:N.
_C.MODEL.DEVICE = "auto"
# transformer or resnet50.
_C.MODEL.NAME = "transformer"
# Backbone: vit_base_patch16_224_TransReID (768 wide, 12 deep), deit_small_patch16_224_TransReID (384, 12),
# vit_small_patch16_224_TransReID (768, 8), vit_tiny_patch16_128_TransReID (192, 6; for CPUs), or any of timm's vision
# transformers of the same structure by its name there, e.g. vit_large_patch16_224.
_C.MODEL.TRANSFORMER_TYPE = "vit_base_patch16_224_TransReID"
# Patch stride (rows, columns) in pixels; [16, 16], or smaller for overlapping patches, e.g. [12, 12].
_C.MODEL.STRIDE_SIZE = [16, 16]
# Weights to start from: a file of the family's, of timm or torchvision, or timm:NAME, which asks timm's hub for it;
# "" starts from random weights.
_C.MODEL.PRETRAIN_PATH = "pretrained/jx_vit_base_p16_224-80ecf9dd.pth"
# Height and width in pixels of the images that PRETRAIN_PATH was trained on, for a file whose position embeddings fit
# several grids of patches; [0, 0]: as the file tells.
_C.MODEL.PRETRAIN_SIZE = [0, 0]
# Which weights are read of a file that holds several models, by the name of the entry or prefix, e.g. state_dict_ema or
# teacher; "": the trained ones rather than their average.
_C.MODEL.CHECKPOINT_ENTRY = ""
# Side information embedding: a learned vector per camera and/or viewpoint, times SIE_COE, added to every token.
_C.MODEL.SIE_CAMERA = True
_C.MODEL.SIE_VIEW = False
_C.MODEL.SIE_COE = 3.0
# Probability of dropping a residual branch in the last block (linear from 0 in the first), of dropping an activation
# and of dropping an attention weight.
_C.MODEL.DROP_PATH = 0.1
_C.MODEL.DROP_OUT = 0.0
_C.MODEL.ATT_DROP_RATE = 0.0
# Jigsaw patch module of TransReID: the last block once for the whole picture and once for each of DEVIDE_LENGTH groups
# of patches, with heads of their own.
_C.MODEL.JPM = False
# Shift the patches by SHIFT_NUM and deal them out to SHUFFLE_GROUP groups before they are divided; False divides them
# in reading order.
_C.MODEL.RE_ARRANGE = True
_C.MODEL.SHIFT_NUM = 5
_C.MODEL.SHUFFLE_GROUP = 2
_C.MODEL.DEVIDE_LENGTH = 4
# resnet50: stride of the last stage, 1 or 2.
_C.MODEL.LAST_STRIDE = 1
# resnet50: generalised mean pooling with a learned exponent (AGW, CIL-ReID) in place of the average.
_C.MODEL.GEM_POOL = False
# resnet50: ReLU after the first convolution, as torchvision has it; the code of BoT and TransReID leaves it out.
_C.MODEL.STEM_RELU = False
# resnet50: kernel of the max pooling in the stem: 3 (padding 1; torchvision, BoT) or 2 (no padding; the TransReID
# codebase, CIL-ReID among it). A checkpoint of this project knows which.
_C.MODEL.STEM_POOL = 3
# softmax (a linear classifier), or with a margin on cosines: arcface, cosface, amsoftmax (the same as cosface), circle.
_C.MODEL.ID_LOSS_TYPE = "softmax"
# triplet (batch-hard) or wrtriplet (weighted regularised, AGW).
_C.MODEL.METRIC_LOSS_TYPE = "triplet"
_C.MODEL.ID_LOSS_WEIGHT = 1.0
_C.MODEL.TRIPLET_LOSS_WEIGHT = 1.0
# Weight of the Jensen-Shannon consistency between a picture and its two augmented views (INPUT.SELF_ID).
_C.MODEL.CONSISTENCY_LOSS_WEIGHT = 12.0
# Label smoothing of the identity loss with epsilon 0.1.
_C.MODEL.IF_LABELSMOOTH = False
# Soft margin log(1 + exp(d_p - d_n)) in the triplet loss in place of the hinge with SOLVER.MARGIN.
_C.MODEL.NO_MARGIN = True
# Center loss; SOLVER.CENTER_LOSS_WEIGHT and CENTER_LR.
_C.MODEL.IF_WITH_CENTER = False

# ---------------------------------------------------------------- INPUT
_C.INPUT = CN()
# Picture size (height, width) in pixels.
_C.INPUT.SIZE_TRAIN = [256, 128]
_C.INPUT.SIZE_TEST = [256, 128]
# Probability of a horizontal flip in training.
_C.INPUT.PROB = 0.5
# Zero padding in pixels on every side before the random crop.
_C.INPUT.PADDING = 10
# Probability of random erasing.
_C.INPUT.RE_PROB = 0.5
# What an erased rectangle shows: normal (noise), soft (the picture mixed with noise) or self (mixed with another part
# of the picture); the share of what is mixed in is drawn from Beta(MIXING_COEFF).
_C.INPUT.ERASING_TYPE = "normal"
_C.INPUT.MIXING_COEFF = [1.0, 1.0]
# Mean and standard deviation of pixels in [0, 1], per RGB channel; applied inside the model.
_C.INPUT.PIXEL_MEAN = [0.485, 0.456, 0.406]
_C.INPUT.PIXEL_STD = [0.229, 0.224, 0.225]
# Clean and corrupted views share crop, flip and erasing (False: drawn apart, as the released code does).
_C.INPUT.PAIRED_GEOMETRY = True
# CIL-ReID's consistent identity loss: two augmented views of every clean picture, which the classifier shall judge
# alike (MODEL.CONSISTENCY_LOSS_WEIGHT); in stages clean and corrupted.
_C.INPUT.SELF_ID = False
# AugMix, before the other augmentations: of the two augmented views with SELF_ID, else of every training picture.
_C.INPUT.AUGMIX = False

# ---------------------------------------------------------------- DATASETS
_C.DATASETS = CN()
# market1501, cuhk03, msmt17, synthetic; folder or csv for pictures of your own (docs/own-data.md); or a corrupted copy
# (python -m corruption export): market1501-C, cuhk03-C, synthetic-C.
_C.DATASETS.NAMES = "market1501"
# Directory that holds the data set's own directory; of folder and csv, the directory that paths are relative to.
_C.DATASETS.ROOT_DIR = "data"
# Refuse a data set whose counts (pictures, identities, cameras) are not the published ones; False only warns (subsets).
_C.DATASETS.CHECK_COUNTS = True
# Decode every picture before the first batch, so that a damaged one comes to light then. False saves that time.
_C.DATASETS.CHECK_IMAGES = True
# What to do about damaged pictures, names that do not parse and entries of lists without a picture: error, or skip,
# which leaves them out, counts and logs.
_C.DATASETS.ON_BAD_IMAGE = "error"
# CUHK03: boxes, detected or labeled; and the test protocol: 0 for the new one (767 and 700 identities), 1 to 20 for one
# of the classic splits (100 test identities; their CMC is TEST.CMC single_gallery_shot).
_C.DATASETS.CUHK03 = CN({"BOXES": "detected", "CLASSIC_SPLIT": 0})
# MSMT17: V1, V2 or auto, the one that is there; and whether the validation set is trained with, as the family does.
_C.DATASETS.MSMT17 = CN({"VERSION": "auto", "WITH_VAL": True})
# folder: the directories of the sets, below ROOT_DIR, and a regular expression for the path of a picture below them,
# with the named groups pid and, optionally, camid and viewid. An empty QUERY is drawn from GALLERY; where TRAIN and
# GALLERY are the same directory, people are drawn for training; an empty TRAIN leaves a set for tests only.
_C.DATASETS.FOLDER = CN({"TRAIN": "train", "QUERY": "query", "GALLERY": "gallery", "PATTERN": r"(?P<pid>[^/]+)/.+"})
# csv: the file, below ROOT_DIR, with columns path, pid and, optionally, camid, viewid and split.
_C.DATASETS.CSV = CN({"FILE": "data.csv"})
# Where a split is drawn: its own seed, so that runs with different SEEDs share it, and the share of people who train.
_C.DATASETS.SPLIT = CN({"SEED": 0, "TRAIN_SHARE": 0.5})

# ---------------------------------------------------------------- DATALOADER
_C.DATALOADER = CN()
# Worker processes for reading, corrupting and transforming; 0: in the main process. Results do not depend on it.
_C.DATALOADER.NUM_WORKERS = 4
# Decoded pictures in shared memory, for all workers: none, or ram, which decodes each once; its size is logged first.
_C.DATALOADER.CACHE = "none"
# softmax_triplet: P identities x NUM_INSTANCE pictures; softmax: pictures in random order.
_C.DATALOADER.SAMPLER = "softmax_triplet"
# Pictures of each identity in a batch.
_C.DATALOADER.NUM_INSTANCE = 8

# ---------------------------------------------------------------- SOLVER
_C.SOLVER = CN()
# SGD, Adam, AdamW, or any optimizer of timm's by its name there, e.g. lamb.
_C.SOLVER.OPTIMIZER_NAME = "SGD"
# Epochs of a stage whose own MAX_EPOCHS is 0.
_C.SOLVER.MAX_EPOCHS = 120
# Learning rate after warm-up of a stage whose own BASE_LR is 0.
_C.SOLVER.BASE_LR = 0.05
# Momentum of SGD; the released schedule uses none.
_C.SOLVER.MOMENTUM = 0.0
# Nesterov momentum of SGD.
_C.SOLVER.NESTEROV = False
# Weight decay, and that of biases.
_C.SOLVER.WEIGHT_DECAY = 1e-3
_C.SOLVER.WEIGHT_DECAY_BIAS = 1e-3
# Biases learn at BASE_LR times this.
_C.SOLVER.BIAS_LR_FACTOR = 2.0
# The classifier learns at twice the rate.
_C.SOLVER.LARGE_FC_LR = False
# Vision transformers: the rate of a block is that of the one above it times this, down to the patch embedding; 1: off.
_C.SOLVER.LAYER_DECAY = 1.0
# cosine (to 0.002 BASE_LR) or multistep (times GAMMA at the epochs of STEPS).
_C.SOLVER.SCHEDULER = "cosine"
_C.SOLVER.STEPS = [40, 70]
_C.SOLVER.GAMMA = 0.1
# Linear warm-up from WARMUP_FACTOR * BASE_LR over WARMUP_EPOCHS epochs.
_C.SOLVER.WARMUP_FACTOR = 0.01
_C.SOLVER.WARMUP_EPOCHS = 5
# Hinge margin of the triplet loss where MODEL.NO_MARGIN is False.
_C.SOLVER.MARGIN = 0.3
# Makes batch-hard triplets harder: distances to positives times 1 + this, to negatives times 1 - this.
_C.SOLVER.HARD_FACTOR = 0.0
# Margin and scale of the identity losses on cosines. The papers' margins: arcface 0.5, cosface and amsoftmax 0.35,
# circle 0.25 (with a scale of 256).
_C.SOLVER.COSINE_MARGIN = 0.5
_C.SOLVER.COSINE_SCALE = 30.0
# Weight of the center loss, and the learning rate of the centers, which does not depend on that weight and stays
# constant. 0.5 suits SGD; Adam and AdamW move every coordinate by the rate itself, 0.01 suits them.
_C.SOLVER.CENTER_LOSS_WEIGHT = 5e-4
_C.SOLVER.CENTER_LR = 0.5
# Pictures in a training batch.
_C.SOLVER.IMS_PER_BATCH = 64
# Backbone in half precision; heads, losses and distances are always in float32: auto (bf16 on a GPU that has it, else
# fp16 on a GPU, off on a CPU), bf16, fp16 (with a loss scale) or off.
_C.SOLVER.AMP = "auto"
# torch.compile the backbone.
_C.SOLVER.COMPILE = False
# Largest norm of the model's gradient, longer ones are cut; 0: off. The centers of the center loss are not cut.
_C.SOLVER.GRAD_CLIP = 0.0
# Recompute the blocks of the backbone in backward instead of storing their activations, so that larger batches fit into
# memory; gradients are the same. It costs one more forward pass. Vision transformers only.
_C.SOLVER.GRAD_CHECKPOINT = False
# Decay of a moving average of the weights, which is then what is tested and kept, e.g. 0.999; 0: off.
_C.SOLVER.EMA_DECAY = 0.0
# Several processes: losses see the batch of all of them; False: each sees its own share, and gradients are averaged.
_C.SOLVER.GLOBAL_LOSS = True
# Bit-identical weights from the same seed on a GPU too, slower. On a CPU they always are.
_C.SOLVER.DETERMINISTIC = False
# auto: go on with the run that OUTPUT_DIR holds, wherever it stopped, if what determines its weights is the same
# (utils/stage_identity.py); "": begin anew.
_C.SOLVER.RESUME = ""
# Log every so many steps; evaluate (one repeat; the best is kept; not in stage bridge, which changes nothing that is
# tested) and keep a checkpoint every so many epochs; 0: at the end only.
_C.SOLVER.LOG_PERIOD = 50
_C.SOLVER.EVAL_PERIOD = 0
_C.SOLVER.CHECKPOINT_PERIOD = 0

# ---------------------------------------------------------------- TEST
_C.TEST = CN()
# Checkpoint that test.py evaluates.
_C.TEST.WEIGHT = ""
# Pictures in a test batch.
_C.TEST.IMS_PER_BATCH = 128
# patch_mean (mean of the patch tokens), class_token (what enters the neck: the class token, or a ResNet's pooled map)
# or neck (what leaves it). JPM appends its local features to the last two, and has no patch_mean, nor has a ResNet.
_C.TEST.FEATURE = "patch_mean"
# Divide test features by their Euclidean norm.
_C.TEST.FEAT_NORM = True
# Test settings, any of clean, corrupted, corrupted_query, corrupted_gallery.
_C.TEST.PROTOCOLS = ["clean", "corrupted", "corrupted_query", "corrupted_gallery"]
# Draws of the corrupted sets; results are mean and standard deviation over them.
_C.TEST.REPEATS = 10
# The corruption matrix, every type of CORRUPTION.TEST at every severity of its own: "" (off) or the sides that are
# corrupted: corrupted, corrupted_query (far cheaper where the gallery is big) or corrupted_gallery. The clean setting
# is tested with it, whatever PROTOCOLS says.
_C.TEST.MATRIX = ""
# Draws of every cell of the matrix.
_C.TEST.MATRIX_REPEATS = 1
# Distance of test features: euclidean or cosine (the same order where FEAT_NORM is True).
_C.TEST.METRIC = "euclidean"
# Average precision: step, the field's usual one, or trapezoid, that of Market-1501's official script.
_C.TEST.AP = "step"
# CMC: standard, or single_gallery_shot, CUHK03's classic protocol (one drawn picture of every gallery identity).
_C.TEST.CMC = "standard"
# k-reciprocal re-ranking, with the paper's settings for Market-1501, which BoT, PASS and CLIP-ReID have too. A file of
# the TransReID codebase means K1 50 and K2 15, as its code has them.
_C.TEST.RE_RANKING = False
_C.TEST.RE_RANKING_K1 = 20
_C.TEST.RE_RANKING_K2 = 6
# Share of the original distance in the re-ranked one.
_C.TEST.RE_RANKING_LAMBDA = 0.3
# Write the features of every tested set's first draw, with identities, cameras and paths, to features/*.npz.
_C.TEST.SAVE_FEATURES = False
# Write thresholds.csv: which distance means the same person, at the equal error rate and at three false accept rates.
_C.TEST.THRESHOLDS = False
# Queries shown in ranked_list.png, clean and corrupted; 0: no picture.
_C.TEST.RANKED_QUERIES = 0
# Queries shown in attention.png: where a vision transformer's class token looks, clean and corrupted; 0: no picture.
_C.TEST.ATTENTION_QUERIES = 0
# Write the model that computes the test feature to this file: .onnx, or .pt2 for torch.export.
_C.TEST.EXPORT = ""
# Directories with a results.json to show beside these results in the final table.
_C.TEST.COMPARE = []

# ---------------------------------------------------------------- CORRUPTION
_C.CORRUPTION = CN()
# Corruptions drawn in training and in the corrupted test settings: "all", or names and families
# (noise, blur, weather, digital), e.g. ["noise", "rain"]. TEST also knows "seen", the types that TRAIN stands for, and
# "unseen", the rest of the 20.
_C.CORRUPTION.TRAIN = ["all"]
_C.CORRUPTION.TEST = ["all"]
# Severities to draw from, 1 to 5.
_C.CORRUPTION.SEVERITIES = [1, 2, 3, 4, 5]
# Probability that a training picture stays clean; released: one of the 20 or none.
_C.CORRUPTION.CLEAN_PROB = 1 / 21
# What computes them: fast (compiled), or imagecorruptions (the published code). From one seed the two draw different
# pictures, which agree in distribution. Where fast is not built, imagecorruptions takes its place, with a warning.
_C.CORRUPTION.BACKEND = "fast"

# ---------------------------------------------------------------- CFAT
_C.CFAT = CN()
# Stages that train.py runs in a row, out of clean, corrupted, bridge, align, in this order.
_C.CFAT.STAGES = ["clean", "corrupted", "bridge", "align"]
# Stage that make_dataloader, make_model, make_loss and make_optimizer build for; "": the last of STAGES.
# train.py sets it.
_C.CFAT.STAGE = ""
# Each stage: epochs and learning rate (0: those of SOLVER) and WEIGHT, a checkpoint used in place of training it.
_C.CFAT.CLEAN = CN({"MAX_EPOCHS": 0, "BASE_LR": 0.0, "WEIGHT": ""})
_C.CFAT.CORRUPTED = CN({"MAX_EPOCHS": 0, "BASE_LR": 0.0, "WEIGHT": ""})
_C.CFAT.BRIDGE = CN({"MAX_EPOCHS": 0, "BASE_LR": 0.0, "WEIGHT": ""})
_C.CFAT.ALIGN = CN({"MAX_EPOCHS": 0, "BASE_LR": 0.0, "WEIGHT": ""})
# Weights that stage corrupted starts from: pretrained (MODEL.PRETRAIN_PATH) or clean (those of stage clean).
_C.CFAT.CORRUPTED.INIT = "pretrained"
# Weights that the student starts from in bridge and align: corrupted (stage 2) or teacher (stage 1).
_C.CFAT.STUDENT_INIT = "corrupted"
# Views that the student's identity terms see: corrupted, or both.
_C.CFAT.STUDENT_VIEWS = "corrupted"

_C.CFAT.COARSE = CN()
# Weight d of the coarse term in the total loss; 0 leaves it out.
_C.CFAT.COARSE.WEIGHT = 1.0
# Temperature T.
_C.CFAT.COARSE.TEMPERATURE = 0.5
# Stop the gradient through the per-anchor weight w_a (released: False).
_C.CFAT.COARSE.DETACH_WEIGHT = False
# Leave other pictures of the anchor's identity out of the sum over k (released: False).
_C.CFAT.COARSE.EXCLUDE_SAME_IDENTITY = False

_C.CFAT.FINE = CN()
# Weights a, b and c: identity and triplet terms on the reconstruction, bridge divergence, reconstruction.
_C.CFAT.FINE.IDENTITY_WEIGHT = 1.0
_C.CFAT.FINE.KL_WEIGHT = 1.0
_C.CFAT.FINE.RECONSTRUCTION_WEIGHT = 1.0
# Weight of the divergence to N(0, I) in stage bridge.
_C.CFAT.FINE.PRIOR_WEIGHT = 1e-3
# Widths of the autoencoder's hidden and latent layers.
_C.CFAT.FINE.HIDDEN_DIM = 128
_C.CFAT.FINE.LATENT_DIM = 16
# One bridge position t per batch (released) or per image.
_C.CFAT.FINE.BRIDGE_T = "batch"
# Standard deviation s of the Brownian noise on bridge points; variance s^2 t (1 - t). 0: none.
_C.CFAT.FINE.NOISE = 0.0
# The released form of the autoencoder (an unconstrained sigma, a sigmoid at the end), which its files (BB_*.pth) need.
_C.CFAT.FINE.RELEASED = False

_C.CFAT.COSINE = CN()
# Weights of 1 - cosine between teacher and student, on class tokens and (mean over positions) on patch tokens.
_C.CFAT.COSINE.CLASS_WEIGHT = 0.0
_C.CFAT.COSINE.PATCH_WEIGHT = 0.0
