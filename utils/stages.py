"""Which CFAT stage a configuration is for, and where that stage's checkpoint lies."""


def current_stage(cfg) -> str:
    """CFAT.STAGE, or the last of CFAT.STAGES where it is empty."""
    return cfg.CFAT.STAGE or cfg.CFAT.STAGES[-1]


def stage_checkpoint(cfg) -> str:
    """What training the current stage leaves; config.stage_cfg hands the same path to the stages after it."""
    return f"{cfg.OUTPUT_DIR}/checkpoints/{current_stage(cfg)}.pth"
