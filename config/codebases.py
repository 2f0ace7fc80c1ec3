"""The TransReID codebase and its relatives: the signs of their files, what keys mean there, and their defaults."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from config.legacy import Legacy, Values
from config.legacy_keys import (
    CODEBASE_KEYS,
    EARLIER_KEYS,
    RELATIVE_VALUES,
    UNREAD_BY_BOT,
    UNSET_VALUES,
    dropped,
)
from config.values import plain

_logger = logging.getLogger(__name__)

# Defaults of TransReID and CIL-ReID, for keys that their files leave out, where they mean another experiment than our
# defaults. Not here: devices, workers, directories and periods, which change no result, and TRANSFORMER_TYPE "None".
TRANSREID_DEFAULTS: Values = {
    "MODEL.NAME": "resnet50",
    "MODEL.PRETRAIN_PATH": "",
    "MODEL.NO_MARGIN": False,
    "MODEL.IF_LABELSMOOTH": True,
    "MODEL.SIE_CAMERA": False,
    "MODEL.STEM_POOL": 2,  # of a ResNet; no key there
    "INPUT.SIZE_TRAIN": [384, 128],
    "INPUT.SIZE_TEST": [384, 128],
    "DATALOADER.SAMPLER": "softmax",
    "DATALOADER.NUM_INSTANCE": 16,
    "SOLVER.OPTIMIZER_NAME": "Adam",
    "SOLVER.MAX_EPOCHS": 100,
    "SOLVER.BASE_LR": 3e-4,
    "SOLVER.BIAS_LR_FACTOR": 1.0,
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.WEIGHT_DECAY": 5e-4,
    "SOLVER.WEIGHT_DECAY_BIAS": 5e-4,
    "TEST.FEATURE": "neck",
    # No keys there: the arguments with which their evaluation calls re_ranking.
    "TEST.RE_RANKING_K1": 50,
    "TEST.RE_RANKING_K2": 15,
    # Plain training on clean images: none of these projects has stages.
    "CFAT.STAGES": ["clean"],
}
_PLAIN_CROSS_ENTROPY: Values = {"MODEL.TRIPLET_LOSS_WEIGHT": 0.0, "MODEL.IF_LABELSMOOTH": False}
_PAPERS_RE_RANKING = {"TEST.RE_RANKING_K1": 20, "TEST.RE_RANKING_K2": 6}

# The schedule of BoT's WarmupMultiStepLR (solver/lr_scheduler.py): steps, and a warm-up of each group's own lr.
_MULTISTEP: Values = {"SOLVER.SCHEDULER": "multistep", "SOLVER.WARMUP_FROM": "group_lr"}
_WARMUP_METHOD_OF_STEPS = Legacy("the warm-up of each group's own lr", drops=("linear",))
_WARMUP_METHOD_CHOOSES = Legacy(
    "it chooses the schedule: cosine, or steps after a warm-up of each group's own lr",
    becomes=(("cosine", {"SOLVER.SCHEDULER": "cosine"}), ("linear", _MULTISTEP)),
)
_WARMUP_ITERS_UNREAD = dropped("the schedule of that code reads SOLVER.WARMUP_EPOCHS, not this key")


@dataclass(frozen=True)
class Codebase:
    """What the files of one codebase mean.

    Attributes:
        name: for messages.
        defaults: our keys -> their values where a file leaves them out.
        keys: old keys, and values of our keys, that mean something else than in TransReID.
    """

    name: str
    defaults: Values
    keys: Mapping[str, Legacy] = field(default_factory=dict)


TRANSREID = Codebase(
    "the TransReID codebase",
    TRANSREID_DEFAULTS,
    {"SOLVER.WARMUP_ITERS": _WARMUP_ITERS_UNREAD},
)
# TransReID-SSL, PASS, SOLIDER and PersonViT share one training code.
SSL = Codebase(
    "TransReID-SSL, PASS, SOLIDER or PersonViT",
    TRANSREID_DEFAULTS | _PAPERS_RE_RANKING,
    {
        "SOLVER.WARMUP_METHOD": _WARMUP_METHOD_CHOOSES,
        "SOLVER.WARMUP_ITERS": _WARMUP_ITERS_UNREAD,
        "MODEL.TRANSFORMER_TYPE": Legacy(
            "there it is timm's ViT of that size, 384 wide and 12 blocks deep; in TransReID 768 wide and 8 deep",
            becomes=(
                (
                    "vit_small_patch16_224_TransReID",
                    {"MODEL.TRANSFORMER_TYPE": "vit_small_patch16_224"},
                ),
                ("vit_tiny_patch16_224_TransReID", {"MODEL.TRANSFORMER_TYPE": "vit_tiny_patch16_224"}),
            ),
        ),
    },
)
BOT = Codebase(
    "BoT",
    TRANSREID_DEFAULTS
    | _PAPERS_RE_RANKING
    | _MULTISTEP
    | {
        "MODEL.STEM_POOL": 3,  # torchvision's stem
        "SOLVER.MAX_EPOCHS": 50,
        "SOLVER.BIAS_LR_FACTOR": 2.0,
        "SOLVER.WEIGHT_DECAY_BIAS": 0.0,
        "SOLVER.STEPS": [30, 55],
        "SOLVER.WARMUP_FACTOR": 1 / 3,
        "SOLVER.WARMUP_EPOCHS": 500,
    },
    {"SOLVER.WARMUP_METHOD": _WARMUP_METHOD_OF_STEPS},
)
# Its sign is the key of track re-ranking. https://github.com/heshuting555/AICITY2020_DMT_VehicleReID and the successor
# AICITY2021_Track2_DMT, whose train.py has the cosine schedule as well.
DMT = Codebase(
    "DMT (vehicles, AI City Challenge)",
    TRANSREID_DEFAULTS | _MULTISTEP | {"SOLVER.STEPS": [40, 70], "SOLVER.WARMUP_EPOCHS": 10},
    {"SOLVER.WARMUP_METHOD": _WARMUP_METHOD_CHOOSES, "SOLVER.WARMUP_ITERS": _WARMUP_ITERS_UNREAD},
)
CLIP_REID = Codebase(
    "CLIP-ReID",
    # its code fetches OpenAI's file, whatever PRETRAIN_PATH says
    TRANSREID_DEFAULTS | _MULTISTEP | {"SOLVER.WARMUP_EPOCHS": 500, "MODEL.PRETRAIN_PATH": "pretrained/ViT-B-16.pt"},
    {"SOLVER.WARMUP_METHOD": _WARMUP_METHOD_OF_STEPS},
)

_CLIP_NAMES = ("ViT-B-16", "RN50")
_DMT_SIGN = "TEST.RE_RANKING_TRACK"
_BOT_SIGNS = {"SOLVER.WARMUP_ITERS", *UNREAD_BY_BOT}
_SSL_SIGNS = {
    *(f"MODEL.{name}" for name in ("PRETRAIN_HW_RATIO", "STEM_CONV", "GEM_POOLING", "POOLING", "REDUCE_FEAT_DIM")),
    *(f"MODEL.{name}" for name in ("FEAT_DIM", "DROPOUT_RATE", "SEMANTIC_WEIGHT", "MULTI_NECK", "FEAT_FUSION")),
    *("SOLVER.TRP_L2", "DATALOADER.REMOVE_TAIL", "DATASETS.ROOT_TRAIN_DIR", "DATASETS.ROOT_VAL_DIR"),
}
_PASS_SIGNS = {"MODEL.MULTI_NECK", "MODEL.FEAT_FUSION"}
_NOT_TOLD_APART = "; a file of PersonViT without MODEL.POOLING is not told apart, whose code has K1 50 and K2 15"

# Keys of a vision transformer, which the ResNets of these codebases ignore.
_TRANSFORMER_ONLY = (
    *("TRANSFORMER_TYPE", "STRIDE_SIZE", "SIE_CAMERA", "SIE_VIEW", "SIE_COE", "DROP_PATH", "DROP_OUT"),
    *("ATT_DROP_RATE", "JPM", "RE_ARRANGE", "SHIFT_NUM", "SHUFFLE_GROUP", "DEVIDE_LENGTH"),
    *("STEM_CONV", "POOLING", "PRETRAIN_HW_RATIO", "SEMANTIC_WEIGHT"),
)


def codebase_keys(given: Collection[str]) -> list[str]:
    """The given keys that only these codebases have; a file with one of them is one of theirs."""
    return [key for key in given if key in CODEBASE_KEYS]


def codebase_of(given: Mapping[str, Any]) -> Codebase | None:
    """The codebase that a file is one of; None for a file of ours."""
    if not codebase_keys(given):
        return None
    if _plain(given, "MODEL.NAME") in _CLIP_NAMES:
        return CLIP_REID
    if _DMT_SIGN in given:
        return DMT
    if _SSL_SIGNS & given.keys() or _plain(given, "SOLVER.WARMUP_METHOD") == "cosine":
        return SSL
    return BOT if _BOT_SIGNS & given.keys() and not _knows_transformers(given) else TRANSREID


def _is_personvit(given: Collection[str]) -> bool:
    """Whether a file shows that it is of PersonViT; its published files do not."""
    return "MODEL.POOLING" in given


def _plain(given: Mapping[str, Any], key: str) -> Any:
    return plain(given.get(key))


def _is_transformer(given: Mapping[str, Any]) -> bool:
    """Whether a file of a codebase trains a transformer: it says so, or it gives a type of one and no other name."""
    unset, _ = UNSET_VALUES["MODEL.TRANSFORMER_TYPE"]
    name = _plain(given, "MODEL.NAME")
    return name == "transformer" or (name is None and _plain(given, "MODEL.TRANSFORMER_TYPE") not in (None, *unset))


def _knows_transformers(given: Mapping[str, Any]) -> bool:
    """Whether a file is of a codebase that has transformers, which BoT has not: it has a key of theirs."""
    return _is_transformer(given) or any(f"MODEL.{name}" in given for name in _TRANSFORMER_ONLY)


def tables_for(given: Mapping[str, Any], codebase: Codebase | None) -> tuple[Mapping[str, Legacy], ...]:
    """The tables that translate a source's keys and values, the first one first."""
    of_transformers: dict[str, Legacy] = {}
    if codebase and _is_transformer(given):
        of_transformers["MODEL.NECK"] = dropped("a vision transformer of that code always has its neck")
    own = dict(codebase.keys) if codebase else {}
    if "SOLVER.SCHEDULER_NAME" in given:
        own["SOLVER.WARMUP_METHOD"] = dropped("SOLVER.SCHEDULER_NAME chooses the schedule where both are given")
    return of_transformers, own, RELATIVE_VALUES, CODEBASE_KEYS, EARLIER_KEYS


def codebase_defaults(
    given: Mapping[str, Any],
    translated: Mapping[str, Any],
    source: str,
    defaults: Mapping[str, Any],
    codebase: Codebase,
) -> Values:
    """The codebase's defaults for the keys that one of its files leaves out. A warning lists them.

    Args:
        given, source, defaults: as of `translate`; a file without `_BASE_`.
        translated: what `translate` returned for it.
        codebase: of the file.
    """
    meant = codebase.defaults | _of_structures(given, translated)
    unset = {key: value for key, value in meant.items() if key not in translated}
    if translated.get("SOLVER.SCHEDULER", "multistep") != "multistep":
        unset = {key: value for key, value in unset.items() if key not in ("SOLVER.WARMUP_FROM", "SOLVER.STEPS")}
    if translated.get("MODEL.NAME", meant["MODEL.NAME"]) != "resnet50":
        unset.pop("MODEL.STEM_POOL", None)
    if "MODEL.NAME" not in translated and _is_transformer(given):
        unset["MODEL.NAME"] = "transformer"
        unset.pop("MODEL.STEM_POOL", None)
        _logger.info("%s: MODEL.NAME is left out -> 'transformer' (MODEL.TRANSFORMER_TYPE is given)", source)
    signs = codebase_keys(given)
    if unset:
        _logger.warning(
            "%s: a file of %s (it has %s%s); keys that it leaves out get that codebase's defaults in place of ours%s: "
            "%s%s",
            source,
            codebase.name,
            ", ".join(signs[:3]),
            ", ..." if len(signs) > 3 else "",
            " (and CFAT.STAGES: plain training on clean images)" if "CFAT.STAGES" in unset else "",
            ", ".join(f"{key} {value!r} (ours {defaults[key]!r})" for key, value in unset.items()),
            _NOT_TOLD_APART if codebase is SSL and "TEST.RE_RANKING_K1" in unset and not _is_personvit(given) else "",
        )
    return unset


def _of_structures(given: Mapping[str, Any], translated: Mapping[str, Any]) -> Values:
    """Defaults that only one of the relatives of TransReID-SSL has, by its own keys."""
    found: Values = {}
    if str(translated.get("MODEL.TRANSFORMER_TYPE", "")).startswith("swin_"):
        found["MODEL.SEMANTIC_WEIGHT"] = 1.0  # SOLIDER
    if translated.get("MODEL.NAME") == "resnet50_ibn_a":
        found["MODEL.STEM_RELU"] = True  # BoT and fast-reid, unlike BoT's resnet50
    if _PASS_SIGNS & given.keys():
        found["MODEL.PART_TOKENS"] = True  # PASS: its code always has them
    if _is_personvit(given):
        found |= {key: TRANSREID_DEFAULTS[key] for key in _PAPERS_RE_RANKING}
    return found


def take_plain_cross_entropy(values: Values, given_by: Mapping[str, str], source: str, codebase: Codebase) -> None:
    """With DATALOADER.SAMPLER softmax the code of every codebase trains cross-entropy alone, without label smoothing.

    BoT's loss with centers does not read the sampler.

    Args:
        values: the merged configuration; what the sampler means is changed in it, except where it is given.
        given_by: key -> source that gave it.
        source: for the log line, which also names what is given and differs from that code.
        codebase: of the files.
    """
    if values["DATALOADER.SAMPLER"] != "softmax" or (codebase is BOT and values["MODEL.IF_WITH_CENTER"]):
        return
    values |= {key: value for key, value in _PLAIN_CROSS_ENTROPY.items() if key not in given_by}
    kept = {key: values[key] for key, value in _PLAIN_CROSS_ENTROPY.items() if values[key] != value}
    _logger.warning(
        "%s: DATALOADER.SAMPLER softmax -> %s (the code of %s then trains cross-entropy alone)%s",
        source,
        _listed({key: value for key, value in _PLAIN_CROSS_ENTROPY.items() if key not in kept}) or "no change",
        codebase.name,
        f"; given, and taken as it is here: {_listed(kept)}" if kept else "",
    )


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value!r}" for key, value in values.items())


def leave_out_for_resnet(values: Values, given_by: dict[str, str], codebase_files: Collection[str]) -> None:
    """Ignores the keys of a vision transformer that a file of the codebase gives with a ResNet, as its code does.

    CIL-ReID's resnet_base.yml has JPM True, which would be an error in a file of ours.

    Args:
        values: the merged configuration; MODEL.JPM becomes False.
        given_by: key -> source that gave it; the ignored keys are removed.
        codebase_files: names of the sources that are files of the codebase.
    """
    keys = [f"MODEL.{name}" for name in _TRANSFORMER_ONLY if given_by.get(f"MODEL.{name}") in codebase_files]
    if not values["MODEL.NAME"].startswith("resnet50") or not keys:
        return
    _logger.warning(
        "%s: %s: keys of a vision transformer, which the TransReID codebase's ResNet ignores, as this one does",
        given_by[keys[0]],
        _listed({key: values[key] for key in keys}),
    )
    if "MODEL.JPM" in keys:
        values["MODEL.JPM"] = False
    for key in keys:
        del given_by[key]
