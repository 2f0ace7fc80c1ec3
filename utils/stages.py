"""The stages of CFAT: what each trains, what it reads of a batch, and where its checkpoint lies."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One row of the table.

    Attributes:
        name: as in CFAT.STAGES.
        trains: "model" (backbone, neck, classifier), "bridge" (the fine head alone) or "student" (student and bridge,
            aligned to a frozen teacher).
        views: keys of the batch that it reads, "images" (clean) and "corrupted".
    """

    name: str
    trains: str
    views: tuple[str, ...]

    @property
    def has_identity_loss(self) -> bool:
        """Whether its identity and triplet losses, and so the tested features, change."""
        return self.trains != "bridge"

    @property
    def sees_corrupted(self) -> bool:
        return "corrupted" in self.views


# In the order in which they build on one another.
STAGES = {
    stage.name: stage
    for stage in (
        Stage("clean", "model", ("images",)),
        Stage("corrupted", "model", ("corrupted",)),
        Stage("bridge", "bridge", ("images", "corrupted")),
        Stage("align", "student", ("images", "corrupted")),
    )
}


def current_stage(cfg) -> Stage:
    """The stage of CFAT.STAGE, or the last of CFAT.STAGES where it is empty."""
    return STAGES[cfg.CFAT.STAGE or cfg.CFAT.STAGES[-1]]


def stage_checkpoint(cfg, name: str = "") -> str:
    """The file that training stage `name` (the current one where it is empty) leaves in OUTPUT_DIR."""
    return f"{cfg.OUTPUT_DIR}/checkpoints/{name or current_stage(cfg).name}.pth"
