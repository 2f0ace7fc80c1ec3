"""The stages of CFAT as ordinary training runs: which ones to train, and the configuration of each."""

import itertools

from yacs.config import CfgNode

from config.load import ConfigError
from utils.stages import STAGES, stage_checkpoint


def stages_to_run(cfg: CfgNode) -> list[str]:
    """Lists the stages of CFAT.STAGES to train: those that are not replaced by a checkpoint in their own WEIGHT."""
    return [stage for stage in cfg.CFAT.STAGES if not cfg.CFAT[stage.upper()].WEIGHT]


def stage_cfg(cfg: CfgNode, stage: str) -> CfgNode:
    """Makes the configuration of one stage.

    CFAT.STAGE is set; the stage's own MAX_EPOCHS and BASE_LR, where not 0, take the place of SOLVER's; and each earlier
    stage without a WEIGHT gets the checkpoint that training it leaves in OUTPUT_DIR. Whether the file is there is
    checked by who loads it: an earlier run may have left it.

    Args:
        cfg: what `load_cfg` returned; it is not modified.
        stage: clean, corrupted, bridge or align.

    Returns:
        A frozen clone.

    Raises:
        ConfigError: there is no such stage.
    """
    if stage not in STAGES:
        raise ConfigError(f"there is no stage {stage!r} of CFAT; expected one of {', '.join(STAGES)}")
    staged = cfg.clone()
    staged.defrost()
    staged.CFAT.STAGE = stage
    own = cfg.CFAT[stage.upper()]
    if own.MAX_EPOCHS:
        staged.SOLVER.MAX_EPOCHS = own.MAX_EPOCHS
    if own.BASE_LR:
        staged.SOLVER.BASE_LR = own.BASE_LR
    for earlier in itertools.takewhile(lambda name: name != stage, STAGES):
        section = staged.CFAT[earlier.upper()]
        if not section.WEIGHT:
            section.WEIGHT = stage_checkpoint(cfg, earlier)
    staged.freeze()
    return staged
