"""Which stages of CFAT to train, and the configuration of each."""

import itertools

from yacs.config import CfgNode

from config.load import ConfigError
from utils.stages import STAGES, stage_checkpoint


def stages_to_run(cfg: CfgNode) -> list[str]:
    """Lists the stages of CFAT.STAGES to train: those without a checkpoint in their own WEIGHT."""
    return [stage for stage in cfg.CFAT.STAGES if not cfg.CFAT[stage.upper()].WEIGHT]


def stage_cfg(cfg: CfgNode, stage: str) -> CfgNode:
    """Makes the configuration of one stage.

    It sets CFAT.STAGE, replaces SOLVER's MAX_EPOCHS and BASE_LR and MODEL.TRIPLET_ON by the stage's own where these are
    not 0 or empty, and sets the WEIGHT of each earlier stage, where empty, to the checkpoint that its training saves in
    OUTPUT_DIR. The loader checks whether that file exists: an earlier run may have saved it.

    Args:
        cfg: the whole configuration; it is not modified.
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
    if own.get("TRIPLET_ON"):  # stage bridge has no triplets
        staged.MODEL.TRIPLET_ON = own.TRIPLET_ON
    for earlier in itertools.takewhile(lambda name: name != stage, STAGES):
        section = staged.CFAT[earlier.upper()]
        if not section.WEIGHT:
            section.WEIGHT = stage_checkpoint(cfg, earlier)
    staged.freeze()
    return staged
