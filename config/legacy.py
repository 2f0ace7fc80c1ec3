"""Keys and values of the TransReID codebase (TransReID, CIL-ReID, CFAT as released), translated in this one place.

Every translation writes one log line: where, old -> new, why. What is not built is a fault, never a silent drop.

Sources of names and defaults: config/defaults.py of https://github.com/damo-cv/TransReID and of the two projects that
grew out of it; tests/golden/family_config_keys.json lists them.
"""

import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from config.values import plain

_logger = logging.getLogger("config.legacy")

_SWITCHES = {"on": True, "yes": True, "off": False, "no": False}


@dataclass(frozen=True)
class Legacy:
    """What becomes of a key that only the family has.

    Attributes:
        reason: why, for the log line or the error.
        becomes: value -> (our key, our value); a value that is not listed here or in `drops` is a fault.
        drops: values that are dropped; None: every value.
        drops_beside: values that are dropped where the key beside each is given, in whichever source.
        renamed: our key that takes every value.
        overrides: our key may be given beside it and loses; otherwise two different values are a fault.
    """

    reason: str
    becomes: tuple[tuple[Any, tuple[str, Any]], ...] = ()
    drops: tuple[Any, ...] | None = ()
    drops_beside: Mapping[str, str] = field(default_factory=dict)
    renamed: str = ""
    overrides: bool = False


def _dropped(reason: str) -> Legacy:
    return Legacy(reason, drops=None)


_CIL = "that option of CIL-ReID is not built here"

# Keys of BoT's files alone, whose ResNet pools as torchvision's does (MODEL.STEM_POOL 3; the TransReID codebase: 2).
_UNREAD_BY_BOT = (
    "SOLVER.CLUSTER_MARGIN",
    *(f"SOLVER.RANGE_{name}" for name in ("K", "MARGIN", "ALPHA", "BETA", "LOSS_WEIGHT")),
)
_BOT_KEYS = {"SOLVER.WARMUP_ITERS", *_UNREAD_BY_BOT}

LEGACY_KEYS: dict[str, Legacy] = {
    "SOLVER.SEED": Legacy("the one seed stands at the top", renamed="SEED"),
    "MODEL.DEVICE_ID": _dropped("CUDA_VISIBLE_DEVICES chooses the device"),
    "MODEL.DIST_TRAIN": _dropped("torchrun decides about several processes"),
    "MODEL.LINEAR_BLOCK": Legacy(_CIL, drops=(False,)),
    "MODEL.NECK": Legacy("bnneck is the neck that is built", drops=("bnneck",)),
    "MODEL.PRETRAIN_CHOICE": Legacy(
        "MODEL.PRETRAIN_PATH says it all: ImageNet weights, or '' for random ones; a trained model goes into "
        "TEST.WEIGHT or CFAT.<STAGE>.WEIGHT",
        drops=("imagenet",),
        drops_beside={"self": "TEST.WEIGHT"},
    ),
    "MODEL.COS_LAYER": Legacy(
        "the cosine layer is a choice of identity loss",
        becomes=((True, ("MODEL.ID_LOSS_TYPE", "arcface")),),
        drops=(False,),
        overrides=True,
    ),
    "MODEL.WRTRIPLET": Legacy(
        "weighted regularised triplets are a choice of metric loss",
        becomes=((True, ("MODEL.METRIC_LOSS_TYPE", "wrtriplet")),),
        drops=(False,),
        overrides=True,
    ),
    "INPUT.MEAN_FEAT": Legacy(_CIL, drops=(False,)),
    "INPUT.FEATURE_REG": Legacy(_CIL, drops=(False,)),
    "TEST.AUGMENT": Legacy(_CIL, drops=(False,)),
    "SOLVER.WARMUP_ITERS": Legacy("its unit was the epoch, too", renamed="SOLVER.WARMUP_EPOCHS"),
    **dict.fromkeys(_UNREAD_BY_BOT, _dropped("no code of BoT reads it")),
    "SOLVER.WARMUP_METHOD": Legacy("'linear' is the warm-up that is built", drops=("linear",)),
    "TEST.EVAL": _dropped("test.py evaluates; during training SOLVER.EVAL_PERIOD does"),
    "TEST.DIST_MAT": _dropped("distances are never kept as one matrix"),
    "TEST.NECK_FEAT": Legacy(
        "TEST.FEATURE names the test feature",
        becomes=(("after", ("TEST.FEATURE", "neck")), ("before", ("TEST.FEATURE", "class_token"))),
    ),
}

# Values of our own keys that leave our default in place.
_UNSET_VALUES: dict[str, tuple[tuple[str, ...], str]] = {
    "MODEL.TRANSFORMER_TYPE": (("", "None"), "it goes with MODEL.NAME resnet50"),
    "DATASETS.ROOT_DIR": (("",), "no directory is named"),
    "OUTPUT_DIR": (("",), "no directory is named"),
}

# What a file of TransReID or CIL-ReID means by a key that it leaves out, wherever that is another experiment than our
# default. Left out here: devices, workers, paths and periods, which change no result, and TRANSFORMER_TYPE "None".
FAMILY_DEFAULTS: dict[str, Any] = {
    "MODEL.NAME": "resnet50",
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
    # No keys there: the arguments of re_ranking in its utils/metrics/reranking.py and utils/metrics/evaluate.py.
    "TEST.RE_RANKING_K1": 50,
    "TEST.RE_RANKING_K2": 15,
    # Plain training on clean images: neither project has stages.
    "CFAT.STAGES": ["clean"],
}

# Where BoT's code differs from it: torchvision's stem, and the arguments of re_ranking.
_BOT_DEFAULTS = {"MODEL.STEM_POOL": 3, "TEST.RE_RANKING_K1": 20, "TEST.RE_RANKING_K2": 6}

# Keys of a vision transformer, which the ResNet of that codebase passes over.
_TRANSFORMER_ONLY = (
    *("TRANSFORMER_TYPE", "STRIDE_SIZE", "SIE_CAMERA", "SIE_VIEW", "SIE_COE", "DROP_PATH", "DROP_OUT"),
    *("ATT_DROP_RATE", "JPM", "RE_ARRANGE", "SHIFT_NUM", "SHUFFLE_GROUP", "DEVIDE_LENGTH"),
)


def codebase_keys(given: Collection[str]) -> list[str]:
    """The keys that only the TransReID codebase has, which a file of it is recognised by."""
    return [key for key in given if key in LEGACY_KEYS]


def translate(
    given: Mapping[str, Any], source: str, defaults: Mapping[str, Any], *, all_given: Collection[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Translates the codebase's keys and values among those of one source.

    Args:
        given: dotted key -> value, of one YAML file or of the command line.
        source: its name, for the log lines.
        defaults: our default of every key.
        all_given: keys that any source gives a value other than "".

    Returns:
        The translated values, unchecked, and one text per fault.
    """
    values: dict[str, Any] = {}
    chosen: dict[str, tuple[str, Any, bool]] = {}  # our key -> the family's key, our value, whether it wins
    faults: list[str] = []
    for key, value in given.items():
        if key not in LEGACY_KEYS:
            _translate_value(key, value, source, defaults, values)
            continue
        rule, meant = LEGACY_KEYS[key], plain(value)
        target = (
            (rule.renamed, value) if rule.renamed else next((new for old, new in rule.becomes if old == meant), None)
        )
        if target is None:
            target = next((new for old, new in rule.becomes if old == _switch(meant)), None)
        if target is not None:
            chosen[target[0]] = (key, target[1], rule.overrides)
            _log(source, key, value, f"{target[0]} {target[1]!r}", rule.reason)
        elif _is_dropped(rule, meant, all_given):
            _log(source, key, value, "dropped", rule.reason)
        else:
            known = [repr(old) for old, _ in rule.becomes] + [repr(old) for old in rule.drops]
            faults.append(f"{key}: found {value!r}, expected {' or '.join(known)}: {rule.reason}")
    for key, (old, value, wins) in chosen.items():
        if key in values and not wins and plain(values[key]) != plain(value):
            faults.append(
                f"{old} asks for {key} {value!r} and {key} is given as {values[key]!r}; leave one of them out"
            )
        values[key] = value
    return values, faults


def _is_dropped(rule: Legacy, meant: Any, all_given: Collection[str]) -> bool:
    if rule.drops is None or any(old in (meant, _switch(meant)) for old in rule.drops):
        return True
    return isinstance(meant, str) and rule.drops_beside.get(meant) in all_given


def _translate_value(key: str, value: Any, source: str, defaults: Mapping[str, Any], values: dict[str, Any]) -> None:
    """Puts our own key into `values`, with a value of the codebase's making translated, or leaves it out."""
    unset, reason = _UNSET_VALUES.get(key, ((), ""))
    if isinstance(value, str) and value in unset:
        _log(source, key, value, f"our default {defaults[key]!r}", reason)
        return
    values[key] = value
    if not isinstance(value, str) or key not in defaults:
        return
    if isinstance(defaults[key], bool) and isinstance(meant := _switch(plain(value)), bool):
        values[key] = meant
        if value.lower() not in ("true", "false"):
            _log(source, key, value, repr(meant), "booleans are booleans")
    elif isinstance(defaults[key], str | list) and re.fullmatch(
        r"""\s*\(\s*(['"].*['"]|[-+.\d].*)\s*,?\s*\)\s*""", value
    ):
        _log(source, key, value, repr(plain(value)), "the text of a Python tuple")


def codebase_defaults(
    given: Mapping[str, Any], translated: Mapping[str, Any], source: str, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """What a file of the codebase means by the keys that it leaves out; {} for other files. Log lines say so.

    Args:
        given, source, defaults: as of `translate`; a file without `_BASE_`.
        translated: what `translate` made of it.
    """
    signs = codebase_keys(given)
    if not signs:
        return {}
    if translated.get("DATALOADER.SAMPLER", FAMILY_DEFAULTS["DATALOADER.SAMPLER"]) == "softmax":
        _logger.warning(
            "%s: with DATALOADER.SAMPLER softmax the TransReID codebase trains plain cross-entropy alone; here the "
            "triplet loss and label smoothing stay unless MODEL.TRIPLET_LOSS_WEIGHT is 0 and IF_LABELSMOOTH False",
            source,
        )
    meant = FAMILY_DEFAULTS | (_BOT_DEFAULTS if _BOT_KEYS & set(given) else {})
    unset = {key: value for key, value in meant.items() if key not in translated}
    if translated.get("MODEL.NAME", meant["MODEL.NAME"]) != "resnet50":
        unset.pop("MODEL.STEM_POOL", None)
    if unset:
        _logger.warning(
            "%s: a file of the TransReID codebase (it has %s%s); keys that it leaves out get that codebase's defaults "
            "in place of ours%s: %s",
            source,
            ", ".join(signs[:3]),
            ", ..." if len(signs) > 3 else "",
            " (and CFAT.STAGES: plain training on clean images)" if "CFAT.STAGES" in unset else "",
            ", ".join(f"{key} {value!r} (ours {defaults[key]!r})" for key, value in unset.items()),
        )
    return unset


def leave_out_for_resnet(values: dict[str, Any], given_by: dict[str, str], codebase_files: Collection[str]) -> None:
    """Passes over the keys of a vision transformer that a file of the codebase gives beside a ResNet, as its code does.

    CIL-ReID's resnet_base.yml has JPM True, which would be an error in a file of ours.

    Args:
        values: the merged configuration; MODEL.JPM becomes False.
        given_by: key -> source that gave it; the keys passed over are taken out.
        codebase_files: names of the sources that are files of the codebase.
    """
    keys = [f"MODEL.{name}" for name in _TRANSFORMER_ONLY if given_by.get(f"MODEL.{name}") in codebase_files]
    if values["MODEL.NAME"] != "resnet50" or not keys:
        return
    _logger.warning(
        "%s: %s: keys of a vision transformer, which the TransReID codebase's ResNet passes over, as this one does",
        given_by[keys[0]],
        ", ".join(f"{key} {values[key]!r}" for key in keys),
    )
    if "MODEL.JPM" in keys:
        values["MODEL.JPM"] = False
    for key in keys:
        del given_by[key]


def _switch(value: Any) -> Any:
    """The boolean behind a text such as 'off' or 'yes'; any other value as it is."""
    return _SWITCHES.get(value.lower(), value) if isinstance(value, str) else value


def _log(source: str, key: str, old: Any, new: str, reason: str) -> None:
    _logger.info("%s: %s %r -> %s (%s)", source, key, old, new, reason)
