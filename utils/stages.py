"""The table of CFAT's stages: what each one trains, which views of a batch it reads, and its checkpoint file."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stage:
    """One row of the table.

    Attributes:
        name: as in CFAT.STAGES.
        trains: "model" (backbone, neck, classifier), "bridge" (the bridge alone) or "student" (student and bridge,
            aligned to a frozen teacher).
        views: keys of the batch that it reads: "images" (clean), "corrupted".
    """

    name: str
    trains: str
    views: tuple[str, ...]

    @property
    def has_identity_loss(self) -> bool:
        """Whether identity and triplet losses train the features that are tested."""
        return self.trains != "bridge"

    @property
    def sees_corrupted(self) -> bool:
        """Whether it reads corrupted views."""
        return "corrupted" in self.views


# In training order: each starts from the checkpoints of those before it.
STAGES = {
    stage.name: stage
    for stage in (
        Stage("clean", "model", ("images",)),
        Stage("corrupted", "model", ("corrupted",)),
        Stage("bridge", "bridge", ("images", "corrupted")),
        Stage("align", "student", ("images", "corrupted")),
    )
}

# Keys of which a stage may have its own in CFAT, see config.stage_cfg.
OWN_KEYS = ("SOLVER.MAX_EPOCHS", "SOLVER.BASE_LR", "MODEL.TRIPLET_ON")


def current_stage(cfg: Any) -> Stage:
    """The stage that CFAT.STAGE names; the last one of CFAT.STAGES where it is empty."""
    return STAGES[cfg.CFAT.STAGE or cfg.CFAT.STAGES[-1]]


def own_key(cfg: Any, key: str) -> str:
    """The dotted key that gives the current stage its value of `key`: its own one where that is set, which wins.

    CFAT.CLEAN.MAX_EPOCHS above 0, for example, replaces SOLVER.MAX_EPOCHS in stage clean.
    """
    stage, name = current_stage(cfg).name.upper(), key.partition(".")[2]
    return f"CFAT.{stage}.{name}" if key in OWN_KEYS and cfg.CFAT[stage].get(name) else key


def stage_checkpoint(cfg: Any, name: str = "") -> str:
    """The checkpoint in OUTPUT_DIR of stage `name`, or of the current stage where it is empty."""
    return f"{cfg.OUTPUT_DIR}/checkpoints/{name or current_stage(cfg).name}.pth"
