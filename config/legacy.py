"""Keys and values of the TransReID codebase, and keys of earlier versions of this project, translated to today's.

Every translation writes one log line: source, old -> new, reason. An option that is not built here is an error, never
dropped silently.

Sources of names and defaults: config/defaults.py of https://github.com/damo-cv/TransReID (and of CIL-ReID and CFAT,
which are built on it); tests/golden/codebase_config_keys.json lists them.
"""

import logging
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from config.values import plain

_logger = logging.getLogger("config.legacy")

_TUPLE_TEXT = re.compile(r"""\s*\(\s*(['"].*['"]|[-+.\d].*)\s*,?\s*\)\s*""")
_SWITCHES = {"on": True, "yes": True, "off": False, "no": False}


@dataclass(frozen=True)
class Legacy:
    """How an old key is translated.

    Attributes:
        reason: for the log line or the error.
        becomes: value -> (our key, our value); a value that is neither here nor in `drops` is an error.
        drops: values that are dropped; None: every value.
        drops_beside: value -> key; the value is dropped where any source gives that key.
        renamed: our key that takes every value.
        convert: value of the old key -> value of `renamed`.
        overrides: our key may be given beside it and loses; otherwise two different values are an error.
    """

    reason: str
    becomes: tuple[tuple[Any, tuple[str, Any]], ...] = ()
    drops: tuple[Any, ...] | None = ()
    drops_beside: Mapping[str, str] = field(default_factory=dict)
    renamed: str = ""
    convert: Callable[[Any], Any] = lambda value: value
    overrides: bool = False

    def target(self, value: Any) -> tuple[str, Any] | None:
        """Our key and value; None where the value does not become one."""
        if self.renamed:
            return self.renamed, self.convert(value)
        meant = plain(value)
        return next(
            (new for candidate in (meant, _switch(meant)) for old, new in self.becomes if old == candidate), None
        )

    def is_dropped(self, value: Any, all_given: Collection[str]) -> bool:
        meant = plain(value)
        if self.drops is None or any(old in (meant, _switch(meant)) for old in self.drops):
            return True
        return isinstance(meant, str) and self.drops_beside.get(meant) in all_given

    @property
    def expected(self) -> str:
        """The values that it takes, for the error message."""
        return " or ".join(repr(old) for old in (*(old for old, _ in self.becomes), *(self.drops or ())))


def _dropped(reason: str) -> Legacy:
    return Legacy(reason, drops=None)


def _switch(value: Any) -> Any:
    """The boolean that a text such as 'off' or 'yes' means; any other value unchanged."""
    return _SWITCHES.get(value.lower(), value) if isinstance(value, str) else value


def _more_than_one(value: Any) -> Any:
    """True for an integer above 1, False for 1; any other value unchanged, for the check to refuse."""
    meant = plain(value)
    return meant > 1 if type(meant) is int and meant >= 1 else value


# Keys that earlier versions of this project had. A file with one of them is not a file of the TransReID codebase.
EARLIER_KEYS: dict[str, Legacy] = {
    "DATASETS.CHECK_PICTURES": Legacy(
        "an earlier name", renamed="DATASETS.CHECK_IMAGES", convert=lambda value: _switch(plain(value))
    ),
    "SOLVER.ACCUMULATE": Legacy(
        "blocks recomputed in backward save the memory that parts of a batch saved",
        renamed="SOLVER.GRAD_CHECKPOINT",
        convert=_more_than_one,
    ),
}

_CIL = "that option of CIL-ReID is not built here"

# Keys of BoT's files alone. BoT's ResNet pools as torchvision's (MODEL.STEM_POOL 3; the TransReID codebase: 2).
_UNREAD_BY_BOT = (
    "SOLVER.CLUSTER_MARGIN",
    *(f"SOLVER.RANGE_{name}" for name in ("K", "MARGIN", "ALPHA", "BETA", "LOSS_WEIGHT")),
)
_BOT_KEYS = {"SOLVER.WARMUP_ITERS", *_UNREAD_BY_BOT}

CODEBASE_KEYS: dict[str, Legacy] = {
    "SOLVER.SEED": Legacy("the one seed is the key SEED", renamed="SEED"),
    "MODEL.DEVICE_ID": _dropped("CUDA_VISIBLE_DEVICES chooses the device"),
    "MODEL.DIST_TRAIN": _dropped("torchrun starts several processes"),
    "MODEL.LINEAR_BLOCK": Legacy(_CIL, drops=(False,)),
    "MODEL.NECK": Legacy("bnneck is the neck that is built", drops=("bnneck",)),
    "MODEL.PRETRAIN_CHOICE": Legacy(
        "MODEL.PRETRAIN_PATH names the initial weights, '' for random ones; a trained model goes into TEST.WEIGHT or "
        "CFAT.<STAGE>.WEIGHT",
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
    "SOLVER.WARMUP_ITERS": Legacy("its unit was the epoch as well", renamed="SOLVER.WARMUP_EPOCHS"),
    **dict.fromkeys(_UNREAD_BY_BOT, _dropped("no code of BoT reads it")),
    "SOLVER.WARMUP_METHOD": Legacy("'linear' is the warm-up that is built", drops=("linear",)),
    "TEST.EVAL": _dropped("test.py evaluates; during training SOLVER.EVAL_PERIOD does"),
    "TEST.DIST_MAT": _dropped("distances are never kept as one matrix"),
    "TEST.NECK_FEAT": Legacy(
        "TEST.FEATURE names the test feature",
        becomes=(("after", ("TEST.FEATURE", "neck")), ("before", ("TEST.FEATURE", "class_token"))),
    ),
}

# Values of our own keys that mean our default.
_UNSET_VALUES: dict[str, tuple[tuple[str, ...], str]] = {
    "MODEL.TRANSFORMER_TYPE": (("", "None"), "it goes with MODEL.NAME resnet50"),
    "DATASETS.ROOT_DIR": (("",), "no directory is named"),
    "OUTPUT_DIR": (("",), "no directory is named"),
}

# Defaults of TransReID and CIL-ReID, for keys that their files leave out, where they mean another experiment than our
# defaults. Not here: devices, workers, paths and periods, which change no result, and TRANSFORMER_TYPE "None".
CODEBASE_DEFAULTS: dict[str, Any] = {
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
    # No keys there: the arguments with which their evaluation calls re_ranking.
    "TEST.RE_RANKING_K1": 50,
    "TEST.RE_RANKING_K2": 15,
    # Plain training on clean images: neither project has stages.
    "CFAT.STAGES": ["clean"],
}

# Where BoT's code differs: torchvision's stem, and the arguments of re_ranking.
_BOT_DEFAULTS = {"MODEL.STEM_POOL": 3, "TEST.RE_RANKING_K1": 20, "TEST.RE_RANKING_K2": 6}

# Keys of a vision transformer, which the ResNet of that codebase ignores.
_TRANSFORMER_ONLY = (
    *("TRANSFORMER_TYPE", "STRIDE_SIZE", "SIE_CAMERA", "SIE_VIEW", "SIE_COE", "DROP_PATH", "DROP_OUT"),
    *("ATT_DROP_RATE", "JPM", "RE_ARRANGE", "SHIFT_NUM", "SHUFFLE_GROUP", "DEVIDE_LENGTH"),
)


def codebase_keys(given: Collection[str]) -> list[str]:
    """The given keys that only the TransReID codebase has; a file with one of them is a file of that codebase."""
    return [key for key in given if key in CODEBASE_KEYS]


def translate(
    given: Mapping[str, Any], source: str, defaults: Mapping[str, Any], *, all_given: Collection[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Translates the old keys and values of one source.

    Args:
        given: dotted key -> value, of one YAML file or of the command line.
        source: its name, for the log lines.
        defaults: our default of every key.
        all_given: keys that any source gives a value other than "".

    Returns:
        The translated values, unchecked, and one text per error.
    """
    values: dict[str, Any] = {}
    chosen: dict[str, tuple[str, Any, bool]] = {}  # our key -> the old key, our value, whether it wins
    errors: list[str] = []
    for key, value in given.items():
        legacy = CODEBASE_KEYS.get(key) or EARLIER_KEYS.get(key)
        if legacy is None:
            _translate_value(key, value, source, defaults, values)
        elif target := legacy.target(value):
            chosen[target[0]] = (key, target[1], legacy.overrides)
            _log(source, key, value, f"{target[0]} {target[1]!r}", legacy.reason)
        elif legacy.is_dropped(value, all_given):
            _log(source, key, value, "dropped", legacy.reason)
        else:
            errors.append(f"{key}: found {value!r}, expected {legacy.expected}: {legacy.reason}")
    for key, (old, value, wins) in chosen.items():
        if key in values and not wins and plain(values[key]) != plain(value):
            errors.append(f"{old} means {key} {value!r} and {key} is given as {values[key]!r}; leave one of them out")
        values[key] = value
    return values, errors


def _translate_value(key: str, value: Any, source: str, defaults: Mapping[str, Any], values: dict[str, Any]) -> None:
    """Puts one of our own keys into `values`; values in the codebase's notation are translated or left out."""
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
    elif isinstance(defaults[key], str | list) and _TUPLE_TEXT.fullmatch(value):
        _log(source, key, value, repr(plain(value)), "the text of a Python tuple")


def codebase_defaults(
    given: Mapping[str, Any], translated: Mapping[str, Any], source: str, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """The codebase's defaults for the keys that one of its files leaves out; {} for other files. A warning lists them.

    Args:
        given, source, defaults: as of `translate`; a file without `_BASE_`.
        translated: what `translate` returned for it.
    """
    signs = codebase_keys(given)
    if not signs:
        return {}
    if translated.get("DATALOADER.SAMPLER", CODEBASE_DEFAULTS["DATALOADER.SAMPLER"]) == "softmax":
        _logger.warning(
            "%s: with DATALOADER.SAMPLER softmax the TransReID codebase trains plain cross-entropy alone; here the "
            "triplet loss and label smoothing stay unless MODEL.TRIPLET_LOSS_WEIGHT is 0 and IF_LABELSMOOTH False",
            source,
        )
    meant = CODEBASE_DEFAULTS | (_BOT_DEFAULTS if _BOT_KEYS & set(given) else {})
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
    """Ignores the keys of a vision transformer that a file of the codebase gives with a ResNet, as its code does.

    CIL-ReID's resnet_base.yml has JPM True, which would be an error in a file of ours.

    Args:
        values: the merged configuration; MODEL.JPM becomes False.
        given_by: key -> source that gave it; the ignored keys are removed.
        codebase_files: names of the sources that are files of the codebase.
    """
    keys = [f"MODEL.{name}" for name in _TRANSFORMER_ONLY if given_by.get(f"MODEL.{name}") in codebase_files]
    if values["MODEL.NAME"] != "resnet50" or not keys:
        return
    _logger.warning(
        "%s: %s: keys of a vision transformer, which the TransReID codebase's ResNet ignores, as this one does",
        given_by[keys[0]],
        ", ".join(f"{key} {values[key]!r}" for key in keys),
    )
    if "MODEL.JPM" in keys:
        values["MODEL.JPM"] = False
    for key in keys:
        del given_by[key]


def _log(source: str, key: str, old: Any, new: str, reason: str) -> None:
    _logger.info("%s: %s %r -> %s (%s)", source, key, old, new, reason)
