"""Keys and values of the TransReID family (TransReID, CIL-ReID, CFAT as released), translated in this one place.

Every translation writes one log line: where, old -> new, why. What is not built is a fault, never a silent drop.

Sources of names and defaults: config/defaults.py of https://github.com/damo-cv/TransReID and of the two projects that
grew out of it; tests/golden/family_config_keys.json lists them.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from config.values import parse_text

_logger = logging.getLogger("config.legacy")

_SWITCHES = {"on": True, "yes": True, "off": False, "no": False}


@dataclass(frozen=True)
class Legacy:
    """What becomes of a key that only the family has.

    Attributes:
        reason: why, for the log line or the error.
        becomes: value -> (our key, our value); a value that is not listed here or in `drops` is a fault.
        drops: values that are dropped; None: every value.
        renamed: our key that takes every value.
        overrides: our key may be given beside it and loses; otherwise two different values are a fault.
    """

    reason: str
    becomes: tuple[tuple[Any, tuple[str, Any]], ...] = ()
    drops: tuple[Any, ...] | None = ()
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
    # Plain training on clean pictures: neither project has stages.
    "CFAT.STAGES": ["clean"],
}

# The released CFAT code builds the optimizer of its config and never uses it; our defaults are what it trains with.
_UNUSED_BY_CFAT = (
    "SOLVER.OPTIMIZER_NAME",
    "SOLVER.BASE_LR",
    "SOLVER.MOMENTUM",
    "SOLVER.WEIGHT_DECAY",
    "SOLVER.WEIGHT_DECAY_BIAS",
)


def is_teacher_key(key: str) -> bool:
    """Whether a key is of the section that only CFAT's released files have."""
    return key.split(".")[0] == "tMODEL"


def translate(
    given: Mapping[str, Any],
    source: str,
    defaults: Mapping[str, Any],
    *,
    apply_family_defaults: bool,
    from_cfat: bool = False,
) -> tuple[dict[str, Any], list[str]]:
    """Translates the family's keys and values among those of one source.

    Args:
        given: dotted key -> value, of one YAML file or of the command line.
        source: its name, for the log lines.
        defaults: our default of every key.
        apply_family_defaults: the source is a file without `_BASE_`: if it turns out to be the family's, the keys that
            it leaves out get the family's defaults.
        from_cfat: another source has CFAT's tMODEL section, so that what this one says is said of CFAT.

    Returns:
        The translated values, unchecked, and one text per fault.
    """
    values: dict[str, Any] = {}
    chosen: dict[str, tuple[str, Any, bool]] = {}  # our key -> the family's key, our value, whether it wins
    faults: list[str] = []
    teacher = [key for key in given if is_teacher_key(key)]
    from_cfat = from_cfat or bool(teacher)
    if teacher:
        _log(source, "tMODEL", f"{len(teacher)} keys", "dropped", "the teacher shares MODEL here")
    for key, value in given.items():
        if key in teacher:
            continue
        if key not in LEGACY_KEYS:
            _translate_value(key, value, source, defaults, values)
            continue
        rule = LEGACY_KEYS[key]
        target = _target(key, rule, value, from_cfat=from_cfat)
        if target is not None:
            chosen[target[0]] = (key, target[1], rule.overrides)
            _log(source, key, value, f"{target[0]} {target[1]!r}", rule.reason)
        elif rule.drops is None or _plain(value) in rule.drops:
            _log(source, key, value, "dropped", rule.reason)
        else:
            known = [repr(old) for old, _ in rule.becomes] + [repr(old) for old in rule.drops]
            faults.append(f"{key}: found {value!r}, expected {' or '.join(known)}: {rule.reason}")
    for key, (old, value, wins) in chosen.items():
        if key in values and not wins and _plain(values[key]) != _plain(value):
            faults.append(
                f"{old} asks for {key} {value!r} and {key} is given as {values[key]!r}; leave one of them out"
            )
        values[key] = value
    if apply_family_defaults and (from_cfat or any(key in LEGACY_KEYS for key in given)):
        if _BOT_KEYS & given.keys():
            values.setdefault("MODEL.STEM_POOL", 3)
        values = _with_family_settings(values, source, defaults, from_cfat=from_cfat)
    return values, faults


def _target(key: str, rule: Legacy, value: Any, *, from_cfat: bool) -> tuple[str, Any] | None:
    """Finds our key and value; None where the value is dropped or a fault."""
    if rule.renamed:
        return rule.renamed, value
    target = next((new for old, new in rule.becomes if old == _plain(value)), None)
    if key == "TEST.NECK_FEAT" and from_cfat and target == ("TEST.FEATURE", "class_token"):
        # The released CFAT model returns the mean of the patch tokens there.
        return "TEST.FEATURE", "patch_mean"
    return target


def _translate_value(key: str, value: Any, source: str, defaults: Mapping[str, Any], values: dict[str, Any]) -> None:
    """Puts our own key into `values`, with a value of the family's making translated, or leaves it out."""
    unset, reason = _UNSET_VALUES.get(key, ((), ""))
    if value in unset:
        _log(source, key, value, f"our default {defaults[key]!r}", reason)
        return
    values[key] = value
    if not isinstance(value, str) or key not in defaults:
        return
    if isinstance(defaults[key], bool) and value.lower() in _SWITCHES:
        values[key] = _SWITCHES[value.lower()]
        _log(source, key, value, repr(values[key]), "booleans are booleans")
    elif isinstance(defaults[key], str | list) and re.fullmatch(r"\s*\(.*\)\s*", value):
        parsed = parse_text(value)
        if isinstance(parsed, str | tuple):
            values[key] = list(parsed) if isinstance(parsed, tuple) else parsed
            _log(source, key, value, repr(values[key]), "the text of a Python tuple")


def _with_family_settings(
    values: dict[str, Any], source: str, defaults: Mapping[str, Any], *, from_cfat: bool
) -> dict[str, Any]:
    """Makes a file of the family mean the experiment that it means there, and says what that changes."""
    if from_cfat:
        if values.get("MODEL.NAME") == "resnet50":
            values = {"MODEL.STEM_POOL": FAMILY_DEFAULTS["MODEL.STEM_POOL"], **values}
        unused = [f"{key} {values[key]!r} ({defaults[key]!r})" for key in _UNUSED_BY_CFAT if key in values]
        if unused:
            _logger.warning(
                "%s: settings of the optimizer are used as written; the released CFAT code ignores them and trains "
                "with the values in brackets: %s",
                source,
                ", ".join(unused),
            )
        return values
    unset = {key: value for key, value in FAMILY_DEFAULTS.items() if key not in values}
    if values.get("MODEL.NAME", "resnet50") != "resnet50":
        unset.pop("MODEL.STEM_POOL", None)
    if values.get("DATALOADER.SAMPLER", FAMILY_DEFAULTS["DATALOADER.SAMPLER"]) == "softmax":
        _logger.warning(
            "%s: with DATALOADER.SAMPLER softmax the family trains plain cross-entropy alone; here the triplet loss "
            "and label smoothing stay unless MODEL.TRIPLET_LOSS_WEIGHT is 0 and IF_LABELSMOOTH False",
            source,
        )
    if unset:
        _logger.warning(
            "%s: a file of the TransReID family without CFAT's tMODEL; keys that it leaves out get the family's "
            "defaults in place of ours%s: %s",
            source,
            " (and CFAT.STAGES: plain training on clean pictures)" if "CFAT.STAGES" in unset else "",
            ", ".join(f"{key} {value!r} (ours {defaults[key]!r})" for key, value in unset.items()),
        )
    return {**unset, **values}


def _plain(value: Any) -> Any:
    """The value behind a text such as 'False', 'no' or "('before')"."""
    if isinstance(value, str):
        value = _SWITCHES.get(value.lower(), parse_text(value))
    return list(value) if isinstance(value, tuple) else value


def _log(source: str, key: str, old: Any, new: str, reason: str) -> None:
    _logger.info("%s: %s %s -> %s (%s)", source, key, old if key == "tMODEL" else repr(old), new, reason)
