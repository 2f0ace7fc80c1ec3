"""Pretrained weights by name, from the Hugging Face hub: timm:NAME and hf-hub:OWNER/NAME, both of timm, and
hf_hub:OWNER/NAME, a checkpoint file of any repository. What has been fetched once is read from the hub's cache."""

import logging
import re
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Any

import timm
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from model.weights.model_file import ModelFile, named_for, read_model_file
from utils.errors import UserError, did_you_mean

logger = logging.getLogger(__name__)

TIMM, TIMM_REPOSITORY, REPOSITORY = PREFIXES = ("timm:", "hf-hub:", "hf_hub:")
# Files of a repository, in the order in which they are looked for: the names of huggingface_hub and transformers.
FILES = ("model.safetensors", "pytorch_model.bin")
HUB_URL = "https://huggingface.co/"
_REPOSITORY = re.compile(r"(?P<id>[\w.-]+/(?P<name>[\w.-]+))(@(?P<revision>[\w.-]+))?(/(?P<file>[\w.-]+(/[\w.-]+)*))?")


def is_hub_name(path: str) -> bool:
    """Whether MODEL.PRETRAIN_PATH names weights of a hub, not a file."""
    return path.startswith(PREFIXES)


def read_hub(path: str, *, entry: str = "", names: Collection[str] = ()) -> ModelFile:
    """Reads the weights that a hub name stands for.

    Args:
        path: timm:NAME, a name of timm's list; hf-hub:OWNER/NAME, a repository in timm's format; or
            hf_hub:OWNER/NAME[/FILE], a checkpoint file of any repository, without FILE the first of FILES that it has.
            @REVISION may follow NAME in the last two.
        entry: MODEL.CHECKPOINT_ENTRY, for a checkpoint file.
        names: see `read_model_file`.

    Returns:
        The state dict. Its configuration has the image size as INPUT.SIZE_TEST where timm tells it.

    Raises:
        UserError: no such name, or it cannot be fetched; the message says which file to put where.
    """
    if path.startswith(TIMM):
        return _read_timm(path, path.removeprefix(TIMM), names)
    prefix = next(prefix for prefix in PREFIXES if path.startswith(prefix))
    repository = _REPOSITORY.fullmatch(path.removeprefix(prefix))
    if repository is None or ".." in path or (prefix == TIMM_REPOSITORY and repository["file"]):
        expected = f"{prefix}OWNER/NAME{'[/FILE]' if prefix == REPOSITORY else ''}"
        raise UserError(f"MODEL.PRETRAIN_PATH {path}: no repository of the Hugging Face hub; expected {expected}")
    if prefix == REPOSITORY:
        return _read_repository(path, repository, entry, names)
    return _build(path, path, names, source=f"{FILES[0]} of {HUB_URL}{repository['id']}", name=repository["name"])


def _read_timm(path: str, name: str, names: Collection[str]) -> ModelFile:
    """The weights of a name of timm's list."""
    if not timm.is_model(name.split(".")[0]):
        raise UserError(
            f"MODEL.PRETRAIN_PATH {path}: timm has no model of this name{did_you_mean(name, timm.list_models())}; "
            "timm.list_models() has them"
        )
    try:
        cfg = timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # a tag after the name that timm does not know
        raise UserError(f"MODEL.PRETRAIN_PATH {path}: {error}") from error
    if cfg is None or not (cfg.hf_hub_id or cfg.url):
        raise UserError(f"MODEL.PRETRAIN_PATH {path}: timm has no weights of it; timm.list_pretrained() has the names")
    source = f"{cfg.hf_hub_filename or FILES[0]} of {HUB_URL}{cfg.hf_hub_id}" if cfg.hf_hub_id else str(cfg.url)
    return _build(path, name, names, source=source, name=name)


def _build(path: str, model_name: str, names: Collection[str], *, source: str, name: str) -> ModelFile:
    """The weights of a model as timm builds it, whatever names they have in its file."""
    try:
        model: Any = timm.create_model(model_name, pretrained=True)
    except Exception as error:  # the network's errors, and those of a cached file that is damaged or of another model
        raise _not_fetched(path, error, source=source, name=name) from error
    img_size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    state, left_out = named_for(model.state_dict(), names)
    return ModelFile(path, state, {"INPUT.SIZE_TEST": list(img_size)} if img_size else {}, left_out)


def _read_repository(path: str, repository: re.Match[str], entry: str, names: Collection[str]) -> ModelFile:
    """The model in a checkpoint file of a repository."""
    error: Exception = FileNotFoundError()
    cached = False  # without a network, only what the cache has
    for file in (repository["file"],) if repository["file"] else FILES:
        try:
            local = hf_hub_download(repository["id"], file, revision=repository["revision"], local_files_only=cached)
        except EntryNotFoundError as missing:
            error, cached = missing, isinstance(missing, LocalEntryNotFoundError)
            continue
        except Exception as other:  # the network's errors have no common class
            error = other
            break
        logger.info("MODEL.PRETRAIN_PATH %s: %s is read", path, local)
        return read_model_file(local, entry=entry, names=names)
    source = f"{repository['file'] or FILES[0]} of {HUB_URL}{repository['id']}"
    raise _not_fetched(path, error, source=source, name=repository["name"]) from error


def _not_fetched(path: str, error: Exception, *, source: str, name: str) -> UserError:
    """The error where weights cannot be fetched: which file to put where.

    Args:
        source: the file and where it is, for another machine.
        name: of the file to be, without its suffix.
    """
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    suffix = PurePosixPath(source.split()[0]).suffix
    return UserError(
        f"MODEL.PRETRAIN_PATH {path}: cannot be fetched ({reason}); without a network, download {source} on another "
        f"machine, put it to pretrained/{name}{suffix} and set MODEL.PRETRAIN_PATH to that"
    )
