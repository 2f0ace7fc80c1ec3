"""The tables of old keys: those of the TransReID codebase and its relatives, and those of earlier versions.

Sources of names and defaults: config/defaults.py of https://github.com/damo-cv/TransReID (and of CIL-ReID and CFAT,
which are built on it; tests/golden/codebase_config_keys.json lists them), https://github.com/damo-cv/TransReID-SSL,
https://github.com/CASIA-IVA-Lab/PASS-reID, https://github.com/tinyvision/SOLIDER-REID,
https://github.com/hustvl/PersonViT, https://github.com/Syliz517/CLIP-ReID,
https://github.com/michuanhaohao/reid-strong-baseline (BoT) and their forks.
"""

from typing import Any

from config.legacy import Legacy
from config.values import plain, switch


def dropped(reason: str) -> Legacy:
    return Legacy(reason, drops=None)


def _more_than_one(value: Any) -> Any:
    """True for an integer above 1, False for 1; any other value unchanged, for the check to refuse."""
    meant = plain(value)
    return meant > 1 if type(meant) is int and meant >= 1 else value


# Keys that earlier versions of this project had. A file with one of them is not a file of the TransReID codebase.
EARLIER_KEYS: dict[str, Legacy] = {
    "DATASETS.CHECK_PICTURES": Legacy(
        "an earlier name", renamed="DATASETS.CHECK_IMAGES", convert=lambda value: switch(plain(value))
    ),
    "SOLVER.ACCUMULATE": Legacy(
        "blocks recomputed in backward save the memory that parts of a batch saved",
        renamed="SOLVER.GRAD_CHECKPOINT",
        convert=_more_than_one,
    ),
}

_CIL = "that option of CIL-ReID is not built here"
_AMP = Legacy(
    "the precision of the backbone",
    becomes=((True, {"SOLVER.AMP": "fp16"}), (False, {"SOLVER.AMP": "off"})),
)
_OF_INITIAL_WEIGHTS = ("TEST.WEIGHT", "MODEL.PRETRAIN_PATH")

# Keys of BoT's files that no code of it reads.
UNREAD_BY_BOT = (
    "SOLVER.CLUSTER_MARGIN",
    *(f"SOLVER.RANGE_{name}" for name in ("K", "MARGIN", "ALPHA", "BETA", "LOSS_WEIGHT")),
)

# Keys that only the codebase and its relatives have: a file with one of them is one of theirs.
CODEBASE_KEYS: dict[str, Legacy] = {
    "SOLVER.SEED": Legacy("the one seed is the key SEED", renamed="SEED"),
    "MODEL.DEVICE_ID": dropped("CUDA_VISIBLE_DEVICES chooses the device"),
    "MODEL.DIST_TRAIN": dropped("torchrun starts several processes"),
    "MODEL.LINEAR_BLOCK": Legacy(_CIL, drops=(False,)),
    "MODEL.NECK": Legacy("bnneck is the neck that is built", drops=("bnneck",)),
    "MODEL.PRETRAIN_CHOICE": Legacy(
        "MODEL.PRETRAIN_PATH names the initial weights, '' for random ones; a trained model goes into TEST.WEIGHT or "
        "CFAT.<STAGE>.WEIGHT",
        becomes=tuple((value, {"MODEL.PRETRAIN_PATH": ""}) for value in ("no", "self", "finetune")),
        drops=("imagenet",),
        drops_beside={"self": _OF_INITIAL_WEIGHTS, "finetune": _OF_INITIAL_WEIGHTS},
        overrides=True,
    ),
    "MODEL.COS_LAYER": Legacy(
        "the cosine layer is a choice of identity loss",
        becomes=((True, {"MODEL.ID_LOSS_TYPE": "arcface"}),),
        drops=(False,),
        overrides=True,
    ),
    "MODEL.WRTRIPLET": Legacy(
        "weighted regularised triplets are a choice of metric loss",
        becomes=((True, {"MODEL.METRIC_LOSS_TYPE": "wrtriplet"}),),
        drops=(False,),
        overrides=True,
    ),
    "MODEL.GEM_POOLING": Legacy(
        "one of several poolings of patch tokens",
        becomes=((True, {"MODEL.POOLING": "gem"}), (False, {"MODEL.POOLING": "class_token"})),
    ),
    "MODEL.SIE_XISHU": Legacy("an early name", renamed="MODEL.SIE_COE"),
    "INPUT.MEAN_FEAT": Legacy(_CIL, drops=(False,)),
    "INPUT.FEATURE_REG": Legacy(_CIL, drops=(False,)),
    "TEST.AUGMENT": Legacy(_CIL, drops=(False,)),
    "SOLVER.WARMUP_ITERS": Legacy("its unit was the epoch as well", renamed="SOLVER.WARMUP_EPOCHS"),
    **dict.fromkeys(UNREAD_BY_BOT, dropped("no code of BoT reads it")),
    "SOLVER.WARMUP_METHOD": Legacy(
        "the TransReID codebase always runs the cosine schedule, after a linear warm-up",
        becomes=(("cosine", {"SOLVER.SCHEDULER": "cosine"}),),
        drops=("linear",),
    ),
    "SOLVER.SCHEDULER_NAME": Legacy(
        "the schedule is SOLVER.SCHEDULER, cosine or multistep",
        becomes=(
            ("cos", {"SOLVER.SCHEDULER": "cosine"}),
            # what the code of that fork has in place of keys
            (
                "step",
                {
                    "SOLVER.SCHEDULER": "multistep",
                    "SOLVER.STEPS": [60, 90, 120],
                    "SOLVER.GAMMA": 0.1,
                    "SOLVER.WARMUP_EPOCHS": 0,
                },
            ),
        ),
        overrides=True,
    ),
    "SOLVER.FP16_ENABLED": _AMP,
    "SOLVER.FP16": _AMP,
    "USE_MIXED_PRECISION": _AMP,
    "TEST.EVAL": dropped("test.py evaluates; during training SOLVER.EVAL_PERIOD does"),
    "TEST.DIST_MAT": dropped("distances are never kept as one matrix"),
    "TEST.EVAL_METRIC": Legacy(
        "the distance of test features",
        becomes=(("Euclidean", {"TEST.METRIC": "euclidean"}), ("Cos", {"TEST.METRIC": "cosine"})),
        drops=("",),
    ),
    "TEST.FLIP_FEATS": Legacy(
        "the mean of the features of the image and of its mirror image",
        becomes=((True, {"TEST.FLIP": True}), (False, {"TEST.FLIP": False})),
    ),
    "TEST.NECK_FEAT": Legacy(
        "TEST.FEATURE names the test feature",
        becomes=(("after", {"TEST.FEATURE": "neck"}), ("before", {"TEST.FEATURE": "class_token"})),
    ),
}

# Values of our own keys that mean others, wherever they come from.
RELATIVE_VALUES: dict[str, Legacy] = {
    "MODEL.NAME": Legacy(
        "CLIP-ReID's image encoder is a vision transformer",
        becomes=(("ViT-B-16", {"MODEL.NAME": "transformer", "MODEL.TRANSFORMER_TYPE": "ViT-B-16"}),),
        overrides=True,
    ),
    "MODEL.DEVICE": Legacy("the device's name", becomes=(("gpu", {"MODEL.DEVICE": "cuda"}),)),
    "MODEL.METRIC_LOSS_TYPE": Legacy(
        "the center loss is a switch of its own",
        becomes=(
            ("triplet_center", {"MODEL.METRIC_LOSS_TYPE": "triplet", "MODEL.IF_WITH_CENTER": True}),
            ("center", {"MODEL.TRIPLET_LOSS_WEIGHT": 0.0, "MODEL.IF_WITH_CENTER": True}),
        ),
    ),
    "DATALOADER.SAMPLER": Legacy(
        "batches of whole identities", becomes=(("random_identity", {"DATALOADER.SAMPLER": "softmax_triplet"}),)
    ),
    "SOLVER.MARGIN": Legacy("no margin is the soft margin", becomes=(("None", {"MODEL.NO_MARGIN": True}),)),
}

# Values of our own keys that mean our default, and why.
UNSET_VALUES: dict[str, tuple[tuple[Any, ...], str]] = {
    "MODEL.TRANSFORMER_TYPE": (("", "None"), "it goes with MODEL.NAME resnet50"),
    "MODEL.POOLING": (("None",), "the class token"),
    "DATASETS.ROOT_DIR": (("",), "no directory is named"),
    "OUTPUT_DIR": (("",), "no directory is named"),
}
