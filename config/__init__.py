"""Configuration: every key with its default and rule, and the YAML files and command-line pairs that change them.

load_cfg              defaults, a YAML file with its `_BASE_`s and KEY VALUE pairs -> a checked and frozen CfgNode
load_stored_cfg       the same from the configuration that a checkpoint keeps
get_defaults          the defaults alone, to be modified          ConfigError   lists every error of a configuration
find_unread           keys that are given and change nothing
stages_to_run         the stages of CFAT that train.py trains     stage_cfg     the configuration of one of them

Only command lines import this package: every `make_*` takes the CfgNode, and classes take plain arguments.
"""

from config.load import ConfigError, find_unread, get_defaults, load_cfg, load_stored_cfg
from config.stages import stage_cfg, stages_to_run

__all__ = ["ConfigError", "find_unread", "get_defaults", "load_cfg", "load_stored_cfg", "stage_cfg", "stages_to_run"]
