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


def current_stage(cfg: Any) -> Stage:
    """The stage that CFAT.STAGE names; the last one of CFAT.STAGES where it is empty."""
    return STAGES[cfg.CFAT.STAGE or cfg.CFAT.STAGES[-1]]


def stage_checkpoint(cfg: Any, name: str = "") -> str:
    """The checkpoint in OUTPUT_DIR of stage `name`, or of the current stage where it is empty."""
    return f"{cfg.OUTPUT_DIR}/checkpoints/{name or current_stage(cfg).name}.pth"
