"""Structures of relatives of the TransReID codebase that are not built here, and the keys and values that name them."""

import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

from config.problems import Problem
from config.schema import Key
from config.values import plain, same, switch

_TYPO = 0.9  # similarity (0 to 1) from which a value is a misspelt choice rather than the name of a structure


class Switch(NamedTuple):
    """A structure or an option that a key switches on.

    Attributes:
        what: the structure.
        off: values with which it is not there.
        settings: keys that only it reads.
    """

    what: str
    off: tuple[Any, ...] = (False,)
    settings: tuple[str, ...] = ()

    def is_off(self, value: Any) -> bool:
        meant = switch(plain(value))
        return any(same(off, meant) for off in self.off)


# Key -> the structure that it switches on: of TransReID-SSL, of BoT's successor for vehicles, and of forks of TransReID
# (FYP_ModifiedTransReID by KY-2000; cutout; AkihimaTomoya's resuming).
SWITCHES: dict[str, Switch] = {
    "MODEL.DROPOUT_RATE": Switch("dropout before the classifier", off=(0,)),
    "SOLVER.TRP_L2": Switch("a triplet loss on normalised features"),
    "TEST.RE_RANKING_TRACK": Switch("re-ranking of tracks"),
    "MODEL.PATCH_KEEP_RATE": Switch("training with a part of the patches", off=(1,)),
    "MODEL.PFDE_enable": Switch("its part features"),
    "MODEL.FRM_enable": Switch("feature rearrangement", settings=("MODEL.FRM_scale",)),
    "MODEL.BDB_enable": Switch("batch drop block", settings=("MODEL.BATCH_DROP_RATE", "MODEL.BATCH_DROP_LAYER")),
    "MODEL.FeatureDrop_enable": Switch("feature dropout", settings=("MODEL.FEATURE_KEEP_RATE",)),
    "MODEL.SC_enable": Switch("its shortcut features"),
    "INPUT.CUTOUT": Switch("cutout", off=(0,)),
    "RESUME.ENABLED": Switch(
        "another way to resume than SOLVER.RESUME",
        settings=tuple(f"RESUME.{name}" for name in ("CHECKPOINT_PATH", "RESUME_SCHEDULER", "RESUME_OPTIMIZER")),
    ),
}

# Values of keys -> the structure that they name, where the name alone misleads.
NAMES: dict[tuple[str, Any], str] = {
    ("MODEL.NAME", "RN50"): "CLIP's ResNet-50",
    ("MODEL.NAME", "resnet50_nl"): "a ResNet-50 with non-local blocks",
    ("MODEL.NAME", "resnet101_ibn_a"): "a ResNet-101",
    ("MODEL.NAME", "eva02_l_meta"): "EVA-02 with metadata",
    ("MODEL.NECK", "no"): "a ResNet without its neck",
}


def asked_for(given: Mapping[str, Any], source: str) -> list[Problem]:
    """The structures that a file switches on and that are not built here."""
    return [
        Problem(
            source,
            key,
            f"{key} {value!r}: {SWITCHES[key].what} is not built here",
            value,
            is_structure=True,
            what=SWITCHES[key].what,
            settings=tuple(name for name in SWITCHES[key].settings if name in given),
        )
        for key, value in given.items()
        if key in SWITCHES and not SWITCHES[key].is_off(value)
    ]


def unknown_choice(source: str, key: str, value: Any, schema: Mapping[str, Key]) -> Problem | None:
    """A value of a file of a relative that is none of the choices of our key, as the name of a structure.

    None for a value that is likelier a misspelt choice, and for keys without choices.
    """
    choices, name = schema[key].rule.choices, plain(value)
    if not choices or not isinstance(name, str):
        return None
    what = NAMES.get((key, name), "")
    if not what and difflib.get_close_matches(name, choices, n=1, cutoff=_TYPO):
        return None
    named = f"{key} {name:.80}{f' ({what})' if what else ''}"
    text = f"{named} is not built here, expected one of {', '.join(filter(None, choices))}"
    return Problem(source, key, text, name, is_structure=True, what=what)
