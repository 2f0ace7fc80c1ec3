"""Options and ranges of every key that has them. Names of data sets and corruptions are checked by their own rooms."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from utils.stages import STAGES

# The order in which CFAT's stages build on one another.
STAGE_ORDER = tuple(STAGES)
PROTOCOLS = ("clean", "corrupted", "corrupted_query", "corrupted_gallery")


@dataclass(frozen=True)
class Rule:
    """What a value must be.

    Attributes:
        expected: in words, for the error message.
        accepts: whether a value (already of the right type) obeys; for `each`, whether one element does.
        choices: known names, to suggest the nearest one.
        each: the value is a non-empty list whose elements obey and do not repeat.
        elements: as `each`, but elements may repeat and the list may be empty.
    """

    expected: str
    accepts: Callable[[Any], bool]
    choices: tuple[str, ...] = ()
    each: bool = False
    elements: bool = False

    def holds(self, value: Any) -> bool:
        if self.each:
            return len(value) > 0 and len(set(value)) == len(value) and all(map(self.accepts, value))
        if self.elements:
            return all(map(self.accepts, value))
        return self.accepts(value)


def _one_of(*choices: str) -> Rule:
    return Rule("one of " + ", ".join(choice or '""' for choice in choices), choices.__contains__, choices)


def _at_least(low: int) -> Rule:
    return Rule(f"a number of at least {low}", lambda value: low <= value < math.inf)


def _some_of(choices: tuple[str, ...]) -> Rule:
    return Rule(f"one or more of {', '.join(choices)}, each once", choices.__contains__, choices, each=True)


def _in_stage_order(stages: list[str]) -> bool:
    return bool(stages) and stages == [stage for stage in STAGE_ORDER if stage in stages]


def _names_a_pid(pattern: str) -> bool:
    try:
        return "pid" in re.compile(pattern).groupindex
    except (re.error, RecursionError, OverflowError):
        return False


_POSITIVE = Rule("a number above 0", lambda value: 0 < value < math.inf)
_PROBABILITY = Rule("a number from 0 to 1", lambda value: 0 <= value <= 1)
_FILLED = Rule("a text that is not empty", bool)
_SIZE = Rule("a height and a width of at least 16 pixels", lambda value: value >= 16, elements=True)

RULES: dict[str, Rule] = {
    "SEED": _at_least(0),
    "OUTPUT_DIR": _FILLED,
    "MODEL.DEVICE": Rule(
        "auto, cpu, cuda or cuda:N",
        lambda value: re.fullmatch(r"auto|cpu|cuda(:\d+)?", value) is not None,
        ("auto", "cuda"),
    ),
    "MODEL.NAME": _one_of("transformer", "resnet50"),
    "MODEL.TRANSFORMER_TYPE": _FILLED,
    "MODEL.STRIDE_SIZE": Rule("two strides of at least 1 pixel", lambda value: value >= 1, elements=True),
    "MODEL.SIE_COE": _at_least(0),
    "MODEL.DROP_PATH": _PROBABILITY,
    "MODEL.DROP_OUT": _PROBABILITY,
    "MODEL.ATT_DROP_RATE": _PROBABILITY,
    "MODEL.SHIFT_NUM": _at_least(1),
    "MODEL.SHUFFLE_GROUP": _at_least(1),
    "MODEL.DEVIDE_LENGTH": _at_least(1),
    "MODEL.LAST_STRIDE": Rule("1 or 2", (1, 2).__contains__),
    "MODEL.STEM_POOL": Rule("a kernel of 2 or 3", (2, 3).__contains__),
    "MODEL.PRETRAIN_SIZE": Rule("a height and a width in pixels, or [0, 0]", lambda value: value >= 0, elements=True),
    "MODEL.ID_LOSS_TYPE": _one_of("softmax", "arcface", "cosface", "amsoftmax", "circle"),
    "MODEL.METRIC_LOSS_TYPE": _one_of("triplet", "wrtriplet"),
    "MODEL.ID_LOSS_WEIGHT": _at_least(0),
    "MODEL.TRIPLET_LOSS_WEIGHT": _at_least(0),
    "MODEL.CONSISTENCY_LOSS_WEIGHT": _at_least(0),
    "INPUT.SIZE_TRAIN": _SIZE,
    "INPUT.SIZE_TEST": _SIZE,
    "INPUT.PROB": _PROBABILITY,
    "INPUT.PADDING": _at_least(0),
    "INPUT.RE_PROB": _PROBABILITY,
    "INPUT.ERASING_TYPE": _one_of("normal", "soft", "self"),
    "INPUT.MIXING_COEFF": Rule("two numbers above 0", lambda value: 0 < value < math.inf, elements=True),
    "INPUT.PIXEL_MEAN": Rule("three numbers from 0 to 1", lambda value: 0 <= value <= 1, elements=True),
    "INPUT.PIXEL_STD": Rule("three numbers above 0", lambda value: 0 < value < math.inf, elements=True),
    "DATASETS.NAMES": _FILLED,
    "DATASETS.ROOT_DIR": _FILLED,
    "DATASETS.ON_BAD_IMAGE": _one_of("error", "skip"),
    "DATASETS.CUHK03.BOXES": _one_of("detected", "labeled"),
    "DATASETS.CUHK03.CLASSIC_SPLIT": Rule(
        "0 (the new protocol) or a classic split from 1 to 20", range(21).__contains__
    ),
    "DATASETS.MSMT17.VERSION": _one_of("auto", "V1", "V2"),
    "DATASETS.FOLDER.GALLERY": _FILLED,
    "DATASETS.FOLDER.PATTERN": Rule(
        "a regular expression with a named group pid, e.g. (?P<pid>[^/]+)/(?P<camid>\\d+)_.*", _names_a_pid
    ),
    "DATASETS.CSV.FILE": _FILLED,
    "DATASETS.SPLIT.SEED": _at_least(0),
    "DATASETS.SPLIT.TRAIN_SHARE": Rule("a number above 0 and below 1", lambda value: 0 < value < 1),
    "DATALOADER.CACHE": _one_of("none", "ram"),
    "DATALOADER.NUM_WORKERS": _at_least(0),
    "DATALOADER.SAMPLER": _one_of("softmax_triplet", "softmax"),
    "DATALOADER.NUM_INSTANCE": _at_least(1),
    "SOLVER.OPTIMIZER_NAME": _FILLED,
    "SOLVER.MAX_EPOCHS": _at_least(1),
    "SOLVER.BASE_LR": _POSITIVE,
    "SOLVER.MOMENTUM": Rule("a number from 0 to below 1", lambda value: 0 <= value < 1),
    "SOLVER.WEIGHT_DECAY": _at_least(0),
    "SOLVER.WEIGHT_DECAY_BIAS": _at_least(0),
    "SOLVER.BIAS_LR_FACTOR": _POSITIVE,
    "SOLVER.LAYER_DECAY": Rule("a number above 0 and at most 1", lambda value: 0 < value <= 1),
    "SOLVER.SCHEDULER": _one_of("cosine", "multistep"),
    "SOLVER.STEPS": Rule("epochs of at least 1", lambda value: value >= 1, elements=True),
    "SOLVER.GAMMA": _POSITIVE,
    "SOLVER.WARMUP_FACTOR": _PROBABILITY,
    "SOLVER.WARMUP_EPOCHS": _at_least(0),
    "SOLVER.MARGIN": _at_least(0),
    "SOLVER.HARD_FACTOR": Rule("a number from 0 to below 1", lambda value: 0 <= value < 1),
    "SOLVER.COSINE_MARGIN": _at_least(0),
    "SOLVER.COSINE_SCALE": _POSITIVE,
    "SOLVER.CENTER_LOSS_WEIGHT": _POSITIVE,
    "SOLVER.CENTER_LR": _at_least(0),
    "SOLVER.IMS_PER_BATCH": _at_least(1),
    "SOLVER.AMP": _one_of("auto", "bf16", "fp16", "off"),
    "SOLVER.GRAD_CLIP": _at_least(0),
    "SOLVER.EMA_DECAY": Rule("a number from 0 to below 1", lambda value: 0 <= value < 1),
    "SOLVER.RESUME": _one_of("", "auto"),
    "SOLVER.LOG_PERIOD": _at_least(1),
    "SOLVER.EVAL_PERIOD": _at_least(0),
    "SOLVER.CHECKPOINT_PERIOD": _at_least(0),
    "TEST.IMS_PER_BATCH": _at_least(1),
    "TEST.FEATURE": _one_of("patch_mean", "class_token", "neck"),
    "TEST.PROTOCOLS": _some_of(PROTOCOLS),
    "TEST.REPEATS": _at_least(1),
    "TEST.MATRIX": _one_of("", *PROTOCOLS[1:]),
    "TEST.MATRIX_REPEATS": _at_least(1),
    "TEST.METRIC": _one_of("euclidean", "cosine"),
    "TEST.AP": _one_of("step", "trapezoid"),
    "TEST.CMC": _one_of("standard", "single_gallery_shot"),
    "TEST.RE_RANKING_K1": _at_least(1),
    "TEST.RE_RANKING_K2": _at_least(1),
    "TEST.RE_RANKING_LAMBDA": _PROBABILITY,
    "TEST.RANKED_QUERIES": _at_least(0),
    "TEST.ATTENTION_QUERIES": _at_least(0),
    "TEST.EXPORT": Rule(
        'a file name ending in .onnx or .pt2, or ""', lambda value: not value or value.endswith((".onnx", ".pt2"))
    ),
    "TEST.COMPARE": Rule("directories, none of them empty", bool, elements=True),
    "CORRUPTION.TRAIN": Rule("all, or one or more corruptions and families, each once", bool, each=True),
    "CORRUPTION.TEST": Rule(
        "all, or one or more corruptions and families, seen and unseen, each once", bool, each=True
    ),
    "CORRUPTION.SEVERITIES": Rule(
        "one or more severities from 1 to 5, each once", lambda value: 1 <= value <= 5, each=True
    ),
    "CORRUPTION.CLEAN_PROB": _PROBABILITY,
    "CORRUPTION.BACKEND": _one_of("fast", "imagecorruptions"),
    "CFAT.STAGES": Rule(f"one or more of {', '.join(STAGE_ORDER)}, in this order", _in_stage_order, STAGE_ORDER),
    "CFAT.STAGE": _one_of("", *STAGE_ORDER),
    **{f"CFAT.{stage.upper()}.MAX_EPOCHS": _at_least(0) for stage in STAGE_ORDER},
    **{f"CFAT.{stage.upper()}.BASE_LR": _at_least(0) for stage in STAGE_ORDER},
    "CFAT.CORRUPTED.INIT": _one_of("pretrained", "clean"),
    "CFAT.STUDENT_INIT": _one_of("corrupted", "teacher"),
    "CFAT.STUDENT_VIEWS": _one_of("corrupted", "both"),
    "CFAT.COARSE.WEIGHT": _at_least(0),
    "CFAT.COARSE.TEMPERATURE": _POSITIVE,
    "CFAT.FINE.IDENTITY_WEIGHT": _at_least(0),
    "CFAT.FINE.KL_WEIGHT": _at_least(0),
    "CFAT.FINE.RECONSTRUCTION_WEIGHT": _at_least(0),
    "CFAT.FINE.PRIOR_WEIGHT": _at_least(0),
    "CFAT.FINE.HIDDEN_DIM": _at_least(1),
    "CFAT.FINE.LATENT_DIM": _at_least(1),
    "CFAT.FINE.BRIDGE_T": _one_of("batch", "image"),
    "CFAT.FINE.NOISE": _at_least(0),
    "CFAT.COSINE.CLASS_WEIGHT": _at_least(0),
    "CFAT.COSINE.PATCH_WEIGHT": _at_least(0),
}


def check_together(values: dict[str, Any]) -> list[str]:
    """Checks that need more than one key.

    Args:
        values: the merged configuration, flat.

    Returns:
        One text per fault.
    """
    faults = []
    pictures, instances = values["SOLVER.IMS_PER_BATCH"], values["DATALOADER.NUM_INSTANCE"]
    if values["DATALOADER.SAMPLER"] == "softmax_triplet" and pictures % instances:
        faults.append(
            f"SOLVER.IMS_PER_BATCH: found {pictures}, expected a multiple of DATALOADER.NUM_INSTANCE ({instances}): "
            f"sampler softmax_triplet fills a batch with whole identities; {max(1, pictures // instances) * instances} "
            "is near"
        )
    if values["DATALOADER.SAMPLER"] == "softmax_triplet" and instances == 1:
        faults.append(
            "DATALOADER.NUM_INSTANCE: found 1, expected at least 2: the triplet loss compares a picture with another "
            "of the same person (DATALOADER.SAMPLER softmax does without)"
        )
    if values["DATASETS.ON_BAD_IMAGE"] == "skip" and not values["DATASETS.CHECK_IMAGES"]:
        faults.append(
            "DATASETS.ON_BAD_IMAGE: found skip, but DATASETS.CHECK_IMAGES False looks for no damaged pictures; "
            "expected CHECK_IMAGES True, or ON_BAD_IMAGE error"
        )
    steps = values["SOLVER.STEPS"]
    if sorted(steps) != list(steps):
        faults.append(f"SOLVER.STEPS: found {list(steps)}, expected rising epochs: {sorted(steps)}")
    return faults
