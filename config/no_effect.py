"""Keys of files of the TransReID codebase's relatives that change no result here, and why.

Only what was read in the code of the project that has the key stands here: a key that names a run or draws something,
one that no code reads, a switch of a structure that is off, and the settings of such a switch.
"""

import re
from collections.abc import Mapping
from typing import Any

from config.structures import SWITCHES

# Pattern of keys -> what they are for.
_IGNORED = (
    (r"WANDB(\..+)?|TEST\.VISUALIZE\w*|TEST\.(HEAD_FUSION|DISCARD_RATIO|EXPLAIN)", "logging and drawing"),
    (r"INDEX|PRINT_FREQ|LOG_DIR", "names of runs and logging"),
    (r"GPUS|CUDNN\..+|DATALOADER\.PIN_MEMORY", "the device and its memory"),
    (r"DATALOADER\.REMOVE_TAIL", "no code reads it"),
    (r"MODEL\.I2T_LOSS_WEIGHT", "of CLIP-ReID's text prompts, which a file without SOLVER.STAGE1 does not train"),
    (r"DATASETS\.ROOT_(TRAIN|VAL)_DIR", "directories of a data set that is not public"),
)


def without_effect(given: Mapping[str, Any]) -> dict[str, str]:
    """The keys of a file of a relative that change nothing here, and why."""
    found: dict[str, str] = {}
    for key, value in given.items():
        if reason := next((reason for pattern, reason in _IGNORED if re.fullmatch(pattern, key)), ""):
            found[key] = reason
        elif key in SWITCHES and SWITCHES[key].is_off(value):
            found[key] = "off"
            found |= {name: f"a setting of {key}, which is off" for name in SWITCHES[key].settings if name in given}
    return found
