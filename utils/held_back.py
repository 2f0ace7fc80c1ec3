"""What a checkpoint tells of the identities that its training held back for validation."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from utils.checkpoints import load_checkpoint
from utils.errors import UserError
from utils.structures import DatasetSplits

ENTRY = "validation"  # of a checkpoint's meta


class HeldBack(NamedTuple):
    """Which identities a training held back.

    Attributes:
        share, seed: DATASETS.VALIDATION_SHARE and VALIDATION_SEED; a share of 0: none were held back.
        digests: of those of each training set, see `identities_digest`; {} for a share of 0.
        trained_on: names of the training sets.
    """

    share: float
    seed: int
    digests: dict[str, str]
    trained_on: tuple[str, ...]

    def describe(self) -> dict[str, dict[str, Any]]:
        """Plain values for the meta of a checkpoint; {} where none were held back."""
        return {ENTRY: {"share": self.share, "seed": self.seed, "sha256": self.digests}} if self.share else {}


def make_held_back(share: float, seed: int, validation: Sequence[DatasetSplits]) -> HeldBack:
    """What is held back in this run, from its validation sets."""
    digests = {splits.name: identities_digest(splits) for splits in validation}
    return HeldBack(share, seed, digests, tuple(digests))


def identities_digest(splits: DatasetSplits) -> str:
    """sha256 of the identities of a validation set, with the numbers of their images.

    Identities are named as the data set does: names as a JSON list, which tells "a b" from "a" and "b", or numbers.
    """
    pids = sorted(record.pid for record in {*splits.query, *splits.gallery})
    names = [splits.name_of(pid) for pid in pids]
    text = json.dumps(sorted(names)) if splits.pid_names else " ".join(names)
    return hashlib.sha256(text.encode()).hexdigest()


def read_held_back(path: str | Path) -> HeldBack | None:
    """What was held back when a checkpoint of this project was trained; None where the file does not tell.

    Raises:
        UserError: the file cannot be read, or the entry is not as this project writes it.
    """
    meta = load_checkpoint(path).get("meta")
    if not isinstance(meta, dict) or "stage" not in meta:
        return None
    entry = meta.get(ENTRY, {"share": 0.0, "seed": 0, "sha256": {}})
    if not _is_entry(entry):
        raise UserError(
            f"checkpoint {path}: its entry {ENTRY} is {str(entry)[:200]}, expected the share, the seed and a digest of "
            "every training set; the file is damaged or was changed, fetch it anew"
        )
    return HeldBack(entry["share"], entry["seed"], entry["sha256"], _names(meta))


def _names(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """The training sets; model/weights/model_file.py checks the entries."""
    rows = meta.get("datasets")
    rows = rows if isinstance(rows, list) else [{"name": meta.get("dataset")}]
    return tuple(row["name"] for row in rows if isinstance(row, dict) and isinstance(row.get("name"), str))


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and entry.keys() == {"share", "seed", "sha256"}
        and type(entry["share"]) is float
        and 0 <= entry["share"] < 1
        and type(entry["seed"]) is int
        and entry["seed"] >= 0
        and isinstance(entry["sha256"], dict)
        and all(isinstance(text, str) for pair in entry["sha256"].items() for text in pair)
    )
