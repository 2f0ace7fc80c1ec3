"""The identity of a stage: what determines the weights that training it produces, to be stored and compared.

    settings   values of the configuration keys that the stage reads, see KEYS
    initial    initial weights: sha256 of their content, by the key that names the file
    data       the training set, facts from datasets.fingerprint
    version    FORMAT, raised when the same three produce other weights than before

Everything else changes no weight: paths, the number of workers, how the model is tested, keys of other stages. GPUs
and library versions may round differently; checkpoints record them, but they do not count.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from utils.checkpoints import load_checkpoint
from utils.files import open_regular
from utils.stages import STAGES, current_stage

FORMAT = 1
MAX_CHECKPOINT_BYTES = 2**40
SHOWN_DIGITS = 12  # of a sha256, in messages

CLEAN, CORRUPTED, BRIDGE, ALIGN = ALL = tuple(STAGES)

# Keys that checkpoints of earlier versions record, and that determine no weight.
RETIRED = ("SOLVER.ACCUMULATE",)
# Checkpoints that are older than a key record nothing for it, and were trained with this value of it.
VALUES_BEFORE_KEY = {
    "MODEL.STEM_CONV": False,
    "MODEL.POOLING": "class_token",
    "MODEL.REDUCE_FEAT_DIM": False,
    "MODEL.PART_TOKENS": False,
    "MODEL.PRETRAIN_HW_RATIO": 0,
    "MODEL.TRIPLET_ON": "class_token",
    "SOLVER.WARMUP_FROM": "base_lr",
    "CFAT.ALIGN_ON": "class_token",
    "CFAT.TEACHER_DECAY": 1.0,
    "CFAT.LOGITS.WEIGHT": 0.0,
    "CFAT.TOKENS.WEIGHT": 0.0,
}


class Row(NamedTuple):
    """Keys of one section that some stages read, where `when` is true for the configuration."""

    stages: tuple[str, ...]
    section: str  # dotted; "" for the top level
    names: str  # keys, separated by spaces
    when: Callable[[Any], bool] = lambda cfg: True


def _is_transformer(cfg: Any) -> bool:
    return cfg.MODEL.NAME in ("transformer", "timm")


def _is_relative(cfg: Any) -> bool:
    """Whether the backbone is one of the codebase or of its relatives, chosen by MODEL.TRANSFORMER_TYPE."""
    return cfg.MODEL.NAME == "transformer"


def _is_swin(cfg: Any) -> bool:
    """Whether the backbone is a Swin of SOLIDER, which has neither positions nor a stride of its own."""
    return _is_relative(cfg) and cfg.MODEL.TRANSFORMER_TYPE[:4] == "swin"


def _uses_triplet(cfg: Any) -> bool:
    return cfg.MODEL.METRIC_LOSS_TYPE == "triplet"


def _uses_sides(cfg: Any) -> bool:
    return _is_transformer(cfg) and (cfg.MODEL.SIE_CAMERA or cfg.MODEL.SIE_VIEW)


def _from_clean(cfg: Any) -> bool:
    return current_stage(cfg).name == CORRUPTED and cfg.CFAT.CORRUPTED.INIT == "clean"


def _from_pretrained(cfg: Any) -> bool:
    """Of stages clean and corrupted: whether they start from MODEL.PRETRAIN_PATH, not from random weights."""
    return bool(cfg.MODEL.PRETRAIN_PATH) and not _from_clean(cfg)


FROM_SCRATCH = (CLEAN, CORRUPTED)
WITH_BRIDGE = (BRIDGE, ALIGN)
WITH_CORRUPTED = (CORRUPTED, BRIDGE, ALIGN)
WITH_IDENTITY_LOSS = (CLEAN, CORRUPTED, ALIGN)
# Which keys each stage reads. tests/utils/test_stage_identity.py compares the table with the code.
KEYS = (
    Row(ALL, "", "SEED"),
    Row(ALL, "MODEL", "NAME ID_LOSS_TYPE JPM"),
    Row(FROM_SCRATCH, "MODEL", "CHECKPOINT_ENTRY", lambda cfg: _from_clean(cfg) or _from_pretrained(cfg)),
    Row(WITH_BRIDGE, "MODEL", "CHECKPOINT_ENTRY"),
    Row(
        FROM_SCRATCH,
        "MODEL",
        "PRETRAIN_SIZE PRETRAIN_HW_RATIO",
        lambda cfg: _is_transformer(cfg) and not _is_swin(cfg) and _from_pretrained(cfg),
    ),
    Row(ALL, "MODEL", "TRANSFORMER_TYPE SIE_CAMERA SIE_VIEW", _is_transformer),
    Row(ALL, "MODEL", "STRIDE_SIZE", lambda cfg: _is_transformer(cfg) and not _is_swin(cfg)),
    Row(ALL, "MODEL", "DROP_PATH DROP_OUT ATT_DROP_RATE", _is_transformer),
    Row(ALL, "MODEL", "SIE_COE", _uses_sides),
    Row(ALL, "INPUT", "SIZE_TEST", lambda cfg: _is_transformer(cfg) and not _is_swin(cfg)),
    Row(ALL, "MODEL", "RE_ARRANGE DEVIDE_LENGTH", lambda cfg: cfg.MODEL.JPM),
    Row(ALL, "MODEL", "SHIFT_NUM SHUFFLE_GROUP", lambda cfg: cfg.MODEL.JPM and cfg.MODEL.RE_ARRANGE),
    Row(ALL, "MODEL", "STEM_CONV POOLING REDUCE_FEAT_DIM PART_TOKENS", _is_relative),
    Row(ALL, "MODEL", "FEAT_DIM", lambda cfg: _is_relative(cfg) and cfg.MODEL.REDUCE_FEAT_DIM),
    Row(ALL, "MODEL", "MULTI_NECK FEAT_FUSION", lambda cfg: _is_relative(cfg) and cfg.MODEL.PART_TOKENS),
    Row(ALL, "MODEL", "SEMANTIC_WEIGHT", _is_swin),
    Row(ALL, "MODEL", "LAST_STRIDE STEM_RELU STEM_POOL GEM_POOL", lambda cfg: cfg.MODEL.NAME[:8] == "resnet50"),
    Row(WITH_IDENTITY_LOSS, "MODEL", "METRIC_LOSS_TYPE ID_LOSS_WEIGHT TRIPLET_LOSS_WEIGHT IF_LABELSMOOTH"),
    Row(WITH_IDENTITY_LOSS, "MODEL", "TRIPLET_ON"),
    Row(WITH_IDENTITY_LOSS, "MODEL", "IF_WITH_CENTER"),
    Row(WITH_IDENTITY_LOSS, "MODEL", "NO_MARGIN", _uses_triplet),
    Row(WITH_IDENTITY_LOSS, "SOLVER", "HARD_FACTOR", _uses_triplet),
    Row(WITH_IDENTITY_LOSS, "SOLVER", "MARGIN", lambda cfg: _uses_triplet(cfg) and not cfg.MODEL.NO_MARGIN),
    Row(WITH_IDENTITY_LOSS, "SOLVER", "COSINE_MARGIN COSINE_SCALE", lambda cfg: cfg.MODEL.ID_LOSS_TYPE != "softmax"),
    Row(WITH_IDENTITY_LOSS, "SOLVER", "CENTER_LOSS_WEIGHT CENTER_LR", lambda cfg: cfg.MODEL.IF_WITH_CENTER),
    Row(FROM_SCRATCH, "INPUT", "SELF_ID"),
    Row(FROM_SCRATCH, "MODEL", "CONSISTENCY_LOSS_WEIGHT", lambda cfg: cfg.INPUT.SELF_ID),
    Row(WITH_BRIDGE, "INPUT", "SELF_ID", lambda cfg: cfg.INPUT.AUGMIX),
    Row(ALL, "INPUT", "SIZE_TRAIN PROB PADDING RE_PROB PIXEL_MEAN PIXEL_STD AUGMIX"),
    Row(ALL, "INPUT", "ERASING_TYPE", lambda cfg: cfg.INPUT.RE_PROB > 0),
    Row(ALL, "INPUT", "MIXING_COEFF", lambda cfg: cfg.INPUT.RE_PROB > 0 and cfg.INPUT.ERASING_TYPE != "normal"),
    Row(WITH_CORRUPTED, "INPUT", "PAIRED_GEOMETRY"),
    Row(WITH_CORRUPTED, "CORRUPTION", "TRAIN SEVERITIES CLEAN_PROB BACKEND"),
    Row(ALL, "DATALOADER", "SAMPLER"),
    Row(ALL, "DATALOADER", "NUM_INSTANCE", lambda cfg: cfg.DATALOADER.SAMPLER == "softmax_triplet"),
    Row(ALL, "DATALOADER", "BALANCE", lambda cfg: len(cfg.DATASETS.NAMES) > 1),
    Row(ALL, "SOLVER", "OPTIMIZER_NAME MAX_EPOCHS BASE_LR NESTEROV WEIGHT_DECAY WEIGHT_DECAY_BIAS"),
    Row(ALL, "SOLVER", "BIAS_LR_FACTOR LARGE_FC_LR LAYER_DECAY SCHEDULER WARMUP_EPOCHS"),
    Row(ALL, "SOLVER", "IMS_PER_BATCH AMP COMPILE GRAD_CLIP EMA_DECAY GLOBAL_LOSS DETERMINISTIC"),
    Row(ALL, "SOLVER", "MOMENTUM", lambda cfg: cfg.SOLVER.OPTIMIZER_NAME.lower() not in ("adam", "adamw")),
    Row(ALL, "SOLVER", "WARMUP_FACTOR WARMUP_FROM", lambda cfg: cfg.SOLVER.WARMUP_EPOCHS > 0),
    Row(ALL, "SOLVER", "STEPS GAMMA", lambda cfg: cfg.SOLVER.SCHEDULER == "multistep"),
    Row((CORRUPTED,), "CFAT.CORRUPTED", "INIT"),
    Row(WITH_BRIDGE, "CFAT", "STUDENT_INIT ALIGN_ON"),
    Row((ALIGN,), "CFAT", "STUDENT_VIEWS TEACHER_DECAY"),
    Row(WITH_BRIDGE, "CFAT.FINE", "KL_WEIGHT RECONSTRUCTION_WEIGHT HIDDEN_DIM LATENT_DIM BRIDGE_T NOISE RELEASED"),
    Row((BRIDGE,), "CFAT.FINE", "PRIOR_WEIGHT"),
    Row((ALIGN,), "CFAT.FINE", "IDENTITY_WEIGHT"),
    Row((ALIGN,), "CFAT.COARSE", "WEIGHT"),
    Row(
        (ALIGN,),
        "CFAT.COARSE",
        "TEMPERATURE DETACH_WEIGHT EXCLUDE_SAME_IDENTITY",
        lambda cfg: cfg.CFAT.COARSE.WEIGHT > 0,
    ),
    Row((ALIGN,), "CFAT.COSINE", "CLASS_WEIGHT PATCH_WEIGHT"),
    Row((ALIGN,), "CFAT.LOGITS", "WEIGHT"),
    Row((ALIGN,), "CFAT.LOGITS", "TEMPERATURE", lambda cfg: cfg.CFAT.LOGITS.WEIGHT > 0),
    Row((ALIGN,), "CFAT.TOKENS", "WEIGHT"),
)


def settings_of_stage(cfg: Any) -> dict[str, Any]:
    """The values of the keys that the stage of `cfg` reads, by dotted key."""
    stage = current_stage(cfg).name
    found: dict[str, Any] = {}
    for row in KEYS:
        if stage in row.stages and row.when(cfg):
            section = cfg
            for name in filter(None, row.section.split(".")):
                section = section[name]
            found |= {f"{row.section}.{name}".lstrip("."): section[name] for name in row.names.split()}
    return dict(sorted(found.items()))


@cache
def stages_that_read(key: str) -> tuple[str, ...]:
    """The stages that have a dotted key in KEYS, whatever the configuration; () for a key that determines no weight."""
    section, _, name = key.rpartition(".")
    rows = [row for row in KEYS if row.section == section and name in row.names.split()]
    return tuple(stage for stage in ALL if any(stage in row.stages for row in rows))


def _keys_of_stage(stage: str) -> set[str]:
    """Every key that the stage may read."""
    return {f"{row.section}.{name}".lstrip(".") for row in KEYS if stage in row.stages for name in row.names.split()}


def initial_weights(files: Mapping[str, str]) -> dict[str, str]:
    """sha256 of the weights in each file, by the key that names it.

    For a checkpoint of a stage only the tensors count, so that equal weights of another run are equal. For
    MODEL.PRETRAIN_PATH the whole file counts, because its other content says how to read it. A name that is no file,
    timm:NAME, is returned as it is.
    """
    found = {}
    for key, path in files.items():
        if not Path(path).is_file():
            found[key] = path
            continue
        status = Path(path).stat()
        found[key] = _sha256_of(path, key != "MODEL.PRETRAIN_PATH", status.st_size, status.st_mtime_ns)
    return found


def weights_digest(path: str) -> str:
    """sha256 of the tensors in a checkpoint, which files of its features keep; "" where there is no such file."""
    return initial_weights({"": path})[""] if Path(path).is_file() else ""


@lru_cache(maxsize=16)
def _sha256_of(path: str, tensors_only: bool, size: int, time: int) -> str:
    digest = hashlib.sha256()
    if tensors_only:
        _add_tensors(digest, load_checkpoint(path), ())
    else:
        with open_regular(path, max_bytes=MAX_CHECKPOINT_BYTES) as handle:
            for block in iter(partial(handle.read, 2**20), b""):
                digest.update(block)
    return digest.hexdigest()


def _add_tensors(digest: Any, content: Mapping[Any, Any], above: tuple[str, ...]) -> None:
    """Adds the names, types, shapes and values of all tensors, sorted by name; `above`: keys that lead to `content`."""
    for name, value in sorted(content.items(), key=lambda item: str(item[0])):
        place = (*above, str(name))
        if isinstance(value, torch.Tensor):
            digest.update(f"{place} {value.dtype} {tuple(value.shape)}\n".encode("utf-8", "surrogateescape"))
            digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy())
        elif isinstance(value, Mapping) and place != ("meta",):
            _add_tensors(digest, value, place)


@dataclass(frozen=True)
class StageIdentity:
    """What determines the weights of a stage; see the top of the file.

    Attributes:
        stage: name.
        settings: see `settings_of_stage`.
        data: facts of a datasets.TrainingSet; without "sha256" where the images were not read.
        initial: see `initial_weights`; None where it is not known.
        version: FORMAT of the code that made it.
    """

    stage: str
    settings: dict[str, Any]
    data: dict[str, Any] = field(default_factory=dict)
    initial: dict[str, str] | None = None
    version: int = FORMAT

    @property
    def digest(self) -> str:
        """sha256 of all fields. Stages with the same digest have the same weights."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """Plain values with the digest, for the meta of a checkpoint."""
        return {**asdict(self), "digest": self.digest}

    def differences(self, described: Any) -> dict[str, list[str]]:
        """Compares with the result of another identity's `describe()`.

        Returns:
            Descriptions of differences by "settings", "training set", "initial weights" and "format"; empty where the
            weights are the same. What one side does not know (`initial` None, data without "sha256") is not compared.

        Raises:
            ValueError: `described` is no description of an identity.
        """
        before = _parse(described)
        # What a switch leaves unread here: where it was read there, the switch itself differs.
        unread = _keys_of_stage(self.stage) - self.settings.keys()
        older = {key: value for key, value in VALUES_BEFORE_KEY.items() if key in self.settings}
        settings = older | {key: value for key, value in before.settings.items() if key not in unread}
        found = {
            "settings": _differences(settings, self.settings),
            "training set": _differences(*_common(before.data, self.data)),
            "format": _differences({"version": before.version}, {"version": self.version}),
        }
        if before.initial is not None and self.initial is not None:
            found["initial weights"] = _differences(before.initial, self.initial)
        return {name: texts for name, texts in found.items() if texts}


def _parse(described: Any) -> StageIdentity:
    kinds = {"stage": str, "settings": dict, "data": dict, "initial": dict | None, "version": int}
    for name, kind in kinds.items():
        if not (isinstance(described, dict) and name in described and isinstance(described[name], kind)):
            raise ValueError(f"identity, {name}: missing, or of another type")
    settings = {key: value for key, value in described["settings"].items() if key not in RETIRED}
    return StageIdentity(**{**{name: described[name] for name in kinds}, "settings": settings})


def _common(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    both = one.keys() & other.keys()
    return {key: one[key] for key in both}, {key: other[key] for key in both}


def make_identity(cfg: Any, files: Mapping[str, str], data: Mapping[str, Any]) -> StageIdentity:
    """The identity of the current stage of `cfg`, with initial weights from `files` and training set `data`."""
    return StageIdentity(current_stage(cfg).name, settings_of_stage(cfg), dict(data), initial_weights(files))


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """One line for each key whose values differ."""
    return [
        f"{key} {_shown(key, there)} there, {_shown(key, here)} here"
        for key in sorted({*there, *here})
        if there.get(key) != here.get(key)
    ]


def _shown(key: str, values: Mapping[str, Any]) -> str:
    text = str(values.get(key, "not read"))
    return f"{text[:SHOWN_DIGITS]}..." if len(text) == 64 and " " not in text else f"{text:.200}"
