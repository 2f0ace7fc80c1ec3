"""Configuration: one schema with every key (defaults.py), YAML files and command-line pairs merged over it and checked.

`load_cfg` gives a frozen node or one `ConfigError` that lists every fault; `stages_to_run` and `stage_cfg` turn it into
the stages of CFAT. Only the mains import this folder: every `make_*` takes the node, and no class sees it.
"""

from config.load import ConfigError, get_defaults, load_cfg
from config.stages import stage_cfg, stages_to_run

__all__ = ["ConfigError", "get_defaults", "load_cfg", "stage_cfg", "stages_to_run"]
