"""The machine that tests, the version of the code, and what a checkpoint says of its training."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from processor.report.record import Training
from processor.resume import library_versions
from processor.state_checks import flat_config
from utils import distributed
from utils.checkpoints import load_checkpoint
from utils.errors import UserError
from utils.escaping import printable
from utils.stages import STAGES

GIT_SECONDS = 5.0  # to wait for git


def describe_machine(device: torch.device) -> dict[str, str]:
    """Hardware class, versions and threads, by title; nothing that names the machine or its user."""
    facts = {"hardware": _hardware(device), "system": f"{platform.system()} {platform.machine()}"}
    if distributed.world_size() > 1:
        facts["processes"] = str(distributed.world_size())
    facts["threads of a process"] = str(torch.get_num_threads())
    facts["versions"] = ", ".join(f"{name} {version}" for name, version in library_versions().items())
    if commit := _commit():
        facts["code"] = f"commit {commit}"
    return facts


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
        return f"{torch.cuda.get_device_name(device)}, {memory:.0f} GiB"
    return f"CPU, {os.cpu_count()} cores"


def _commit() -> str:
    """The commit of the code and whether it was changed since; "" where it is no git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()[:40]


def read_training(weight: str) -> Training | None:
    """What the checkpoint says of its training; None where it says nothing, as those of other projects."""
    try:
        meta = load_checkpoint(weight).get("meta")
    except UserError:
        return None
    return training_of(meta) if isinstance(meta, dict) and meta.get("stage") else None


def training_of(meta: dict[str, Any]) -> Training | None:
    """The training that the meta of a checkpoint describes; None where it is not of this project."""
    try:
        config = flat_config(str(meta.get("config", "")))
        return Training(
            stage=meta["stage"],
            epoch=meta.get("epoch", 0),
            images_seen=meta.get("images_seen", 0),
            training_seconds=float(meta.get("training_seconds", 0.0)),
            dataset=printable(meta.get("dataset", "")),
            dataset_version=printable(meta.get("dataset_version", "")),
            images=meta.get("num_pictures", 0),
            identities=meta.get("num_classes", 0),
            cameras=meta.get("num_cameras", 0),
            seed=meta.get("seed", 0),
            corruptions=_corruptions(meta["stage"], config),
            versions=meta.get("versions", {}),
        )
    except (ValidationError, UserError, ValueError, TypeError, KeyError):
        return None


def _corruptions(stage: str, config: dict[str, Any]) -> list[str]:
    """CORRUPTION.TRAIN; [] for a stage that sees no corrupted images, as model.weights.model_file has it."""
    known = STAGES.get(stage)
    if known is not None and (not known.sees_corrupted or config.get("CORRUPTION.CLEAN_PROB") == 1):
        return []
    names = config.get("CORRUPTION.TRAIN", [])
    return names if isinstance(names, list) else [names]
