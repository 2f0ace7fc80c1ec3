"""Which model a checkpoint file holds: read from the configuration that it keeps and from the shapes of its parameters,
and expressed as keys of a configuration."""

import logging
from typing import Any

from yacs.config import CfgNode

from model.kinds import TIMM, kind_of, kind_of_names
from model.weights.file_kind import FileKind
from model.weights.file_kinds import FILE_KINDS, kind_in_file
from model.weights.model_file import ModelFile
from model.weights.state_dicts import State, backbone_of, num_rows
from utils.errors import UserError

logger = logging.getLogger(__name__)

# Keys that decide what a model computes. Files of this project record them all, others show some in their shapes.
MODEL_KEYS = ("MODEL.NAME", *dict.fromkeys(key for kind in FILE_KINDS.values() for key in kind.keys_of_model))


def config_of_file(cfg: CfgNode, file: ModelFile) -> CfgNode:
    """Describes the model in a file; one log line says what it is, another one where `cfg` disagrees.

    With MODEL.SIE_CAMERA and SIE_VIEW both False in `cfg`, they stay False though the file has side information; see
    `load_model`.

    Returns:
        A frozen clone of `cfg` whose MODEL describes the model in the file.

    Raises:
        UserError: the file holds no re-identification model, or one of an unknown size, or one for images of another
            size than INPUT.SIZE_TEST.
    """
    seed = file.config.get("SEED", cfg.SEED)
    if seed != cfg.SEED:
        logger.warning(
            "checkpoint %s: trained with SEED %s, now %s: the test samples other corruptions", file.path, seed, cfg.SEED
        )
    backbone = backbone_of(file.state)
    kind = _kind_of_file(cfg, file, backbone)
    if kind is None:
        raise UserError(_no_model_message(file))
    stored = {key: file.config[key] for key in MODEL_KEYS if key in file.config}
    found = stored | kind.keys(cfg, file, backbone, stored)
    kind.warn(cfg, file)
    _log_architecture(cfg, found, file, kind)
    described = cfg.clone()
    described.defrost()
    for key, value in found.items():
        setattr(described.MODEL, key.removeprefix("MODEL."), value)
    described.freeze()
    return described


def check_initial_weights(cfg: CfgNode, file: ModelFile) -> None:
    """Checks that a stage starts from a file with the settings that the file was trained with, where it records them.

    Raises:
        UserError: other settings, which change features without changing a shape.
    """
    kind = FILE_KINDS[kind_of(cfg)]
    keys = relevant_keys({key: _value_of(cfg, key) for key in MODEL_KEYS})
    keys += ["INPUT.SIZE_TEST"] if kind.has_image_size else []
    pairs = {key: (file.config.get(key), _value_of(cfg, key)) for key in keys}
    differences = [f"{key} {then}, now {now}" for key, (then, now) in pairs.items() if then is not None and then != now]
    if differences:
        raise UserError(
            f"checkpoint {file.path}: trained with {'; '.join(differences)}; a stage starts from a file with the "
            "file's settings"
        )


def relevant_keys(values: dict[str, Any]) -> list[str]:
    """Those of MODEL_KEYS that matter for the model that the values describe."""
    kind = kind_of_names(values["MODEL.NAME"], values["MODEL.TRANSFORMER_TYPE"])
    return ["MODEL.NAME", *FILE_KINDS[kind].relevant_keys(values)]


def warn_of_ambiguities(cfg: CfgNode, file: ModelFile) -> None:
    """Warns of what neither the shapes nor the configuration of a file tell though features depend on it; `cfg` decides
    it."""
    kind = _kind_of_file(cfg, file, backbone_of(file.state))
    if kind is not None:
        kind.warn(cfg, file)


def _kind_of_file(cfg: CfgNode, file: ModelFile, backbone: State) -> FileKind | None:
    """The kind of backbone in a re-identification model's file. Models of timm have any names: that it is one of them,
    the configuration in the file tells, or `cfg` for a file that keeps none."""
    is_timm = file.config.get("MODEL.NAME", cfg.MODEL.NAME) == "timm"
    return FILE_KINDS[TIMM] if is_timm and backbone else kind_in_file(backbone)


def _value_of(cfg: CfgNode, key: str) -> Any:
    section, name = key.split(".")
    return cfg[section][name]


def _no_model_message(file: ModelFile) -> str:
    if "encoder.mu.weight" in file.state:
        return (
            f"checkpoint {file.path}: holds CFAT's bridge (BFG) alone, no re-identification model; its place is "
            "CFAT.BRIDGE.WEIGHT, with CFAT.FINE.RELEASED True for a released one"
        )
    prefixes = list(dict.fromkeys(name.split(".")[0] for name in file.state))
    if kind_in_file(file.state) is not None:
        return (
            f"checkpoint {file.path}: holds a bare backbone ({', '.join(prefixes[:4])}, ...), no re-identification "
            "model; weights to start training from go to MODEL.PRETRAIN_PATH"
        )
    return (
        f"checkpoint {file.path}: its names begin with {', '.join(prefixes[:8])}: no known model; expected a "
        "vision transformer, Swin or ResNet-50 under 'base.', as this project, TransReID and its relatives save it, "
        "or a model of timm, which MODEL.NAME timm and its name in MODEL.TRANSFORMER_TYPE tell; where it is one under "
        "another prefix, save the state dict with names that begin with 'base.'"
    )


def _log_architecture(cfg: CfgNode, found: dict[str, Any], file: ModelFile, kind: FileKind) -> None:
    """Logs which model the file holds, and where the configuration disagrees."""
    parts = kind.describe(found)
    if "base.sie_embed" in file.state:
        parts += [f"{num_rows(file.state['base.sie_embed'])} side vectors"]
    if "classifier.weight" in file.state:
        parts += [f"{num_rows(file.state['classifier.weight'])} classes"]
    logger.info("checkpoint %s holds %s", file.path, ", ".join(parts))
    differences = [
        f"{key} {found[key]} (configured {configured})"
        for key in ["MODEL.NAME", *kind.relevant_keys(found)]
        if key in found and found[key] != (configured := _value_of(cfg, key))
    ]
    if differences:
        logger.warning(
            "checkpoint %s: the model in the file is used, not the configured one: %s",
            file.path,
            ", ".join(differences),
        )
