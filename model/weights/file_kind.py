"""What loading needs to know about a kind of backbone: the fields of FileKind."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from yacs.config import CfgNode

from model.weights.model_file import ModelFile
from model.weights.state_dicts import State

Values = dict[str, Any]  # by dotted key


@dataclass(frozen=True)
class Pretrained:
    """A pretrained file, as far as fitting its weights to a backbone needs it.

    Attributes:
        source: the file, for messages.
        stored: the configuration that it keeps, by dotted key; {} for none.
        img_size: MODEL.PRETRAIN_SIZE; (0, 0) for none.
        hw_ratio: MODEL.PRETRAIN_HW_RATIO; 0 for none.
        from_reid: it is a re-identification checkpoint.
    """

    source: str
    stored: Values = field(default_factory=dict)
    img_size: tuple[int, int] = (0, 0)
    hw_ratio: int = 0
    from_reid: bool = False


def _says_nothing(cfg: CfgNode, file: ModelFile) -> None:
    pass


@dataclass(frozen=True)
class FileKind:
    """How a kind of backbone is recognised in files and read from them. Names are without their "base.".

    Attributes:
        title: for messages, e.g. "a ResNet".
        example: value of MODEL.NAME and a pretrained file, for messages.
        keys_of_model: keys of a configuration that decide what such a model computes, without MODEL.NAME.
        holds: whether a backbone's state dict is of this kind.
        keys: (configuration, file, backbone, stored configuration) -> keys that describe the model in the file.
        relevant_keys: those of `keys_of_model` that matter, given the values of a configuration.
        describe: what those keys say, for the log.
        warn: warns of what a re-identification checkpoint does not tell and the configuration decides.
        fit: (backbone, state, where it is from) -> the state fitted to the backbone, e.g. with resized positions.
        renamed: (backbone, state) -> names of the state whose tensors `fit` gives other names.
        pretrained_keys: (configuration, backbone of MODEL.PRETRAIN_PATH) -> keys that the backbone decides.
        has_image_size: the model is made for one image size.
        has_any_names: a model has names of any kind, so that no name in a file tells that the file is of another.
    """

    title: str
    example: str
    keys_of_model: tuple[str, ...]
    holds: Callable[[State], bool]
    keys: Callable[[CfgNode, ModelFile, State, Values], Values]
    relevant_keys: Callable[[Values], list[str]]
    describe: Callable[[Values], list[str]]
    warn: Callable[[CfgNode, ModelFile], None] = _says_nothing
    fit: Callable[[Any, State, Pretrained], State] = lambda base, state, pretrained: state
    renamed: Callable[[Any, State], set[str]] = lambda base, state: set()
    pretrained_keys: Callable[[CfgNode, State], Values] = lambda cfg, backbone: {}
    has_image_size: bool = False
    has_any_names: bool = False
