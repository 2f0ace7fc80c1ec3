"""What a checkpoint tells of the identities that its training held back for validation.

It tells the same of every training before it in the chain of checkpoints: a model keeps what its initial weights saw.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from utils.checkpoints import load_checkpoint
from utils.errors import UserError
from utils.structures import DatasetSplits

ENTRY = "validation"  # of a checkpoint's meta
EARLIER = "earlier_trainings"  # another one


class HeldBack(NamedTuple):
    """Which identities a training held back.

    Attributes:
        share, seed: DATASETS.VALIDATION_SHARE and VALIDATION_SEED; a share of 0: none were held back.
        digests: of those of each training set, see `identities_digest`; {} for a share of 0.
        trained_on: names of the training sets.
        earlier: the same of the trainings that its initial weights come from, each once, without those equal to it;
            their own `earlier` is empty.
    """

    share: float
    seed: int
    digests: dict[str, str]
    trained_on: tuple[str, ...]
    earlier: "tuple[HeldBack, ...]" = ()

    def describe(self) -> dict[str, Any]:
        """Plain values for the meta of a checkpoint; {} where none were held back, and all of it was one training."""
        own = {ENTRY: self._values()} if self.share else {}
        rows = [{"datasets": list(one.trained_on), **one._values()} for one in self.earlier]
        return own | ({EARLIER: rows} if rows else {})

    def _values(self) -> dict[str, Any]:
        return {"share": self.share, "seed": self.seed, "sha256": self.digests}


def make_held_back(
    share: float,
    seed: int,
    validation: Sequence[DatasetSplits],
    *,
    trained_on: Sequence[str] = (),
    earlier: Sequence[HeldBack] = (),
) -> HeldBack:
    """What is held back in this run.

    Args:
        share, seed: DATASETS.VALIDATION_SHARE and VALIDATION_SEED.
        validation: its validation sets.
        trained_on: names of its training sets; (): those of the validation sets.
        earlier: see `read_earlier`.
    """
    digests = {splits.name: identities_digest(splits) for splits in validation}
    own = HeldBack(share, seed if share else 0, digests, tuple(trained_on) or tuple(digests))
    return own._replace(earlier=tuple(one for one in earlier if one != own))


def read_earlier(paths: Iterable[str]) -> tuple[HeldBack, ...]:
    """What was held back in the trainings that initial weights come from, and in those before these, each once.

    Names that are no files, and files that do not tell, are left out.
    """
    found: list[HeldBack] = []
    for path in paths:
        held = read_held_back(path) if Path(path).is_file() else None
        for one in () if held is None else (held._replace(earlier=()), *held.earlier):
            if one not in found:
                found.append(one)
    return tuple(found)


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
        UserError: the file cannot be read, or an entry is not as this project writes it.
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
    rows = meta.get(EARLIER, [])
    if not (isinstance(rows, list) and all(map(_is_row, rows))):
        raise UserError(
            f"checkpoint {path}: its entry {EARLIER} is {str(rows)[:200]}, expected data sets, the share, the seed and "
            "digests of each training that its initial weights come from; the file is damaged or was changed, fetch it "
            "anew"
        )
    earlier = (HeldBack(row["share"], row["seed"], row["sha256"], tuple(row["datasets"])) for row in rows)
    return HeldBack(entry["share"], entry["seed"], entry["sha256"], _names(meta), tuple(earlier))


def _names(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """The training sets; model/weights/model_file.py checks the entries."""
    rows = meta.get("datasets")
    rows = rows if isinstance(rows, list) else [{"name": meta.get("dataset")}]
    return tuple(row["name"] for row in rows if isinstance(row, dict) and isinstance(row.get("name"), str))


def _is_row(row: Any) -> bool:
    if not (isinstance(row, dict) and isinstance(names := row.get("datasets"), list)):
        return False
    return all(isinstance(name, str) for name in names) and _is_entry(
        {key: row[key] for key in row.keys() - {"datasets"}}
    )


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
