"""What determines the weights that training a stage leaves, in a form that can be stored and compared.

    settings   the configuration keys that the stage reads, by KEYS below
    initial    the weights that it starts from: sha256 of their content, by the key that names the file
    data       the training set, the facts of datasets.fingerprint
    version    FORMAT, raised when the same three lead to other weights than before

What is not in it changes no weight: where files lie, how many workers load, how and on what the model is tested, and
keys of other stages. A GPU, or another version of a library, may round differently; checkpoints record both.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from utils.checkpoints import load_checkpoint
from utils.files import open_regular
from utils.stages import current_stage

FORMAT = 1
MAX_CHECKPOINT_BYTES = 2**40
SHOWN_DIGITS = 12  # of a sha256, in messages

CLEAN, CORRUPTED, BRIDGE, ALIGN = ALL = ("clean", "corrupted", "bridge", "align")


class Row(NamedTuple):
    """Keys of one section that some stages read, where the configuration makes `when` true."""

    stages: tuple[str, ...]
    section: str
    names: str
    when: Callable[[Any], bool] = lambda cfg: True


def _is(section: str, name: str, *values: Any) -> Callable[[Any], bool]:
    return lambda cfg: cfg[section][name] in values


def _uses_self_id(cfg) -> bool:
    return cfg.INPUT.SELF_ID


def _uses_center(cfg) -> bool:
    return cfg.MODEL.IF_WITH_CENTER


def _uses_hinge(cfg) -> bool:
    return cfg.MODEL.METRIC_LOSS_TYPE == "triplet" and not cfg.MODEL.NO_MARGIN


def _uses_sides(cfg) -> bool:
    return cfg.MODEL.NAME == "transformer" and (cfg.MODEL.SIE_CAMERA or cfg.MODEL.SIE_VIEW)


def _from_clean(cfg) -> bool:
    return current_stage(cfg) == CORRUPTED and cfg.CFAT.CORRUPTED.INIT == "clean"


def _from_pretrained(cfg) -> bool:
    """Of stages clean and corrupted: whether they start from MODEL.PRETRAIN_PATH, not from random weights."""
    return bool(cfg.MODEL.PRETRAIN_PATH) and not _from_clean(cfg)


# Which keys each stage reads. tests/utils/test_stage_identity.py compares the table with what the code reads.
KEYS = (
    Row(ALL, "", "SEED"),
    Row(ALL, "MODEL", "NAME ID_LOSS_TYPE JPM"),
    Row((CLEAN, CORRUPTED), "MODEL", "CHECKPOINT_ENTRY", lambda cfg: _from_clean(cfg) or _from_pretrained(cfg)),
    Row((BRIDGE, ALIGN), "MODEL", "CHECKPOINT_ENTRY"),
    Row((CLEAN, CORRUPTED), "MODEL", "PRETRAIN_SIZE",
        lambda cfg: cfg.MODEL.NAME == "transformer" and _from_pretrained(cfg)),
    Row(ALL, "MODEL", "TRANSFORMER_TYPE STRIDE_SIZE SIE_CAMERA SIE_VIEW DROP_PATH DROP_OUT ATT_DROP_RATE",
        _is("MODEL", "NAME", "transformer")),
    Row(ALL, "MODEL", "SIE_COE", _uses_sides),
    Row(ALL, "INPUT", "SIZE_TEST", _is("MODEL", "NAME", "transformer")),
    Row(ALL, "MODEL", "RE_ARRANGE DEVIDE_LENGTH", _is("MODEL", "JPM", True)),
    Row(ALL, "MODEL", "SHIFT_NUM SHUFFLE_GROUP", lambda cfg: cfg.MODEL.JPM and cfg.MODEL.RE_ARRANGE),
    Row(ALL, "MODEL", "LAST_STRIDE STEM_RELU STEM_POOL GEM_POOL", _is("MODEL", "NAME", "resnet50")),
    Row((CLEAN, CORRUPTED, ALIGN), "MODEL",
        "METRIC_LOSS_TYPE ID_LOSS_WEIGHT TRIPLET_LOSS_WEIGHT IF_LABELSMOOTH IF_WITH_CENTER"),
    Row((CLEAN, CORRUPTED, ALIGN), "MODEL", "NO_MARGIN", _is("MODEL", "METRIC_LOSS_TYPE", "triplet")),
    Row((CLEAN, CORRUPTED, ALIGN), "SOLVER", "HARD_FACTOR", _is("MODEL", "METRIC_LOSS_TYPE", "triplet")),
    Row((CLEAN, CORRUPTED, ALIGN), "SOLVER", "MARGIN", _uses_hinge),
    Row((CLEAN, CORRUPTED, ALIGN), "SOLVER", "COSINE_MARGIN COSINE_SCALE",
        lambda cfg: cfg.MODEL.ID_LOSS_TYPE != "softmax"),
    Row((CLEAN, CORRUPTED, ALIGN), "SOLVER", "CENTER_LOSS_WEIGHT CENTER_LR", _uses_center),
    Row((CLEAN, CORRUPTED), "INPUT", "SELF_ID"),
    Row((CLEAN, CORRUPTED), "MODEL", "CONSISTENCY_LOSS_WEIGHT", _uses_self_id),
    Row((BRIDGE, ALIGN), "INPUT", "SELF_ID", _is("INPUT", "AUGMIX", True)),
    Row(ALL, "INPUT", "SIZE_TRAIN PROB PADDING RE_PROB PIXEL_MEAN PIXEL_STD AUGMIX"),
    Row(ALL, "INPUT", "ERASING_TYPE", lambda cfg: cfg.INPUT.RE_PROB > 0),
    Row(ALL, "INPUT", "MIXING_COEFF", lambda cfg: cfg.INPUT.RE_PROB > 0 and cfg.INPUT.ERASING_TYPE != "normal"),
    Row((CORRUPTED, BRIDGE, ALIGN), "INPUT", "PAIRED_GEOMETRY"),
    Row((CORRUPTED, BRIDGE, ALIGN), "CORRUPTION", "TRAIN SEVERITIES CLEAN_PROB BACKEND"),
    Row(ALL, "DATALOADER", "SAMPLER"),
    Row(ALL, "DATALOADER", "NUM_INSTANCE", _is("DATALOADER", "SAMPLER", "softmax_triplet")),
    Row(ALL, "SOLVER",
        "OPTIMIZER_NAME MAX_EPOCHS BASE_LR NESTEROV WEIGHT_DECAY WEIGHT_DECAY_BIAS BIAS_LR_FACTOR LARGE_FC_LR "
        "LAYER_DECAY SCHEDULER WARMUP_EPOCHS IMS_PER_BATCH AMP COMPILE GRAD_CLIP ACCUMULATE EMA_DECAY GLOBAL_LOSS "
        "DETERMINISTIC"),
    Row(ALL, "SOLVER", "MOMENTUM", lambda cfg: cfg.SOLVER.OPTIMIZER_NAME.lower() not in ("adam", "adamw")),
    Row(ALL, "SOLVER", "WARMUP_FACTOR", lambda cfg: cfg.SOLVER.WARMUP_EPOCHS > 0),
    Row(ALL, "SOLVER", "STEPS GAMMA", _is("SOLVER", "SCHEDULER", "multistep")),
    Row((CORRUPTED,), "CFAT.CORRUPTED", "INIT"),
    Row((BRIDGE, ALIGN), "CFAT", "STUDENT_INIT"),
    Row((ALIGN,), "CFAT", "STUDENT_VIEWS"),
    Row((BRIDGE, ALIGN), "CFAT.FINE", "KL_WEIGHT RECONSTRUCTION_WEIGHT HIDDEN_DIM LATENT_DIM BRIDGE_T NOISE RELEASED"),
    Row((BRIDGE,), "CFAT.FINE", "PRIOR_WEIGHT"),
    Row((ALIGN,), "CFAT.FINE", "IDENTITY_WEIGHT"),
    Row((ALIGN,), "CFAT.COARSE", "WEIGHT"),
    Row((ALIGN,), "CFAT.COARSE", "TEMPERATURE DETACH_WEIGHT EXCLUDE_SAME_IDENTITY",
        lambda cfg: cfg.CFAT.COARSE.WEIGHT > 0),
    Row((ALIGN,), "CFAT.COSINE", "CLASS_WEIGHT PATCH_WEIGHT"),
)  # fmt: skip


def settings_of_stage(cfg) -> dict[str, Any]:
    """The values of the keys that the stage of `cfg` reads, by dotted key."""
    stage, found = current_stage(cfg), {}
    for row in KEYS:
        if stage in row.stages and row.when(cfg):
            section = cfg
            for name in filter(None, row.section.split(".")):
                section = section[name]
            found |= {f"{row.section}.{name}".lstrip("."): section[name] for name in row.names.split()}
    return dict(sorted(found.items()))


def _keys_of_stage(stage: str) -> set[str]:
    """Every key that the stage may read."""
    return {f"{row.section}.{name}".lstrip(".") for row in KEYS if stage in row.stages for name in row.names.split()}


def initial_weights(files: Mapping[str, str]) -> dict[str, str]:
    """sha256 of the weights in each file, by the key that names it.

    Of a checkpoint of a stage its tensors count, so that the same weights from another run are the same; of
    MODEL.PRETRAIN_PATH the whole file, whose other content says how to read it. A name that is no file, timm:NAME,
    stands for itself.
    """
    found = {}
    for key, path in files.items():
        if not Path(path).is_file():
            found[key] = path
            continue
        status = Path(path).stat()
        found[key] = _sha256_of(path, key != "MODEL.PRETRAIN_PATH", status.st_size, status.st_mtime_ns)
    return found


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


def _add_tensors(digest, content: Mapping[Any, Any], above: tuple[str, ...]) -> None:
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
        stage: its name.
        settings: as of `settings_of_stage`.
        data: facts of a datasets.TrainingSet; without "sha256" where the images were not read.
        initial: as of `initial_weights`; None where it is not known.
    """

    stage: str
    settings: dict[str, Any]
    data: dict[str, Any] = field(default_factory=dict)
    initial: dict[str, str] | None = None
    version: int = FORMAT

    @property
    def digest(self) -> str:
        """sha256 of all of it: stages with the same one have the same weights."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """Plain values for a checkpoint's meta, the digest among them."""
        return {**asdict(self), "digest": self.digest}

    def differences(self, described: Any) -> dict[str, list[str]]:
        """Where what another identity's `describe()` gave says otherwise, in words.

        Returns:
            Texts by "settings", "training set", "initial weights" and "format"; empty where the weights are the same.
            What one of the two does not know (`initial` None, data without "sha256") is not compared.

        Raises:
            ValueError: `described` is nothing of the kind.
        """
        before = _parse(described)
        # What a switch leaves unread here: where it was read there, the switch itself differs.
        unread = _keys_of_stage(self.stage) - self.settings.keys()
        found = {
            "settings": _differences({k: v for k, v in before.settings.items() if k not in unread}, self.settings),
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
    return StageIdentity(**{name: described[name] for name in kinds})


def _common(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    both = one.keys() & other.keys()
    return tuple({key: side[key] for key in both} for side in (one, other))


def make_identity(cfg, files: Mapping[str, str], data: Mapping[str, Any]) -> StageIdentity:
    """The identity of the stage of `cfg`, which starts from `files` and trains with `data`."""
    return StageIdentity(current_stage(cfg), settings_of_stage(cfg), dict(data), initial_weights(files))


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    return [
        f"{key} {_shown(key, there)} there, {_shown(key, here)} here"
        for key in sorted({*there, *here})
        if there.get(key) != here.get(key)
    ]


def _shown(key: str, values: Mapping[str, Any]) -> str:
    text = str(values.get(key, "not read"))
    return f"{text[:SHOWN_DIGITS]}..." if len(text) == 64 and " " not in text else f"{text:.200}"
