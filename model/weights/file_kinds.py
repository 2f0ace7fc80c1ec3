"""The kinds of backbones that are read from files, by the names of model/kinds.py."""

from model.kinds import CLIP, RESNET, SWIN, TIMM, VIT
from model.weights.clip_files import CLIP_FILES
from model.weights.file_kind import FileKind
from model.weights.resnet_files import RESNET_FILES
from model.weights.state_dicts import State
from model.weights.swin_files import SWIN_FILES
from model.weights.timm_files import TIMM_FILES
from model.weights.vit_files import VIT_FILES

# In the order in which a file is compared with them: CLIP's image encoder has the tokens of a vision transformer too.
FILE_KINDS: dict[str, FileKind] = {
    CLIP: CLIP_FILES,
    VIT: VIT_FILES,
    RESNET: RESNET_FILES,
    SWIN: SWIN_FILES,
    TIMM: TIMM_FILES,
}


def kind_in_file(backbone: State) -> FileKind | None:
    """The kind of a backbone's state dict, names without "base."; None for one that no kind knows."""
    return next((kind for kind in FILE_KINDS.values() if kind.holds(backbone)), None)
