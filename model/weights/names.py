"""Names of parameters in published files of other code, as timm names them."""

import re

from model.weights.state_dicts import State
from utils.errors import UserError

_CHUNK = re.compile(r"blocks\.\d+\.(\d+)\.")
# DINOv2's giant model has a SwiGLU feed-forward network whose layers timm names as it names an MLP's.
_SWIGLU = {".mlp.w12.": ".mlp.fc1.", ".mlp.w3.": ".mlp.fc2."}


def timm_names(state: State, *, source: str = "the file") -> State:
    """A bare backbone's state dict by timm's names, where it has those of DINOv2; others stay as they are.

    DINOv2's blocks may lie in chunks (`blocks.CHUNK.N.`, N counts through), its registers are `register_tokens`, and
    its mask token serves pre-training alone. With registers, timm's positions are the patches' alone, and the class
    token's own is added to the token.

    Args:
        state: names without prefix; not changed.
        source: for messages.

    Raises:
        UserError: registers without class token or positions, or two names that are one of timm's.

    Source: https://github.com/facebookresearch/dinov2, dinov2/models/vision_transformer.py.
    """
    named: State = {}
    for name, value in state.items():
        timm_name = _CHUNK.sub(r"blocks.\1.", name)
        for theirs, ours in _SWIGLU.items():
            timm_name = timm_name.replace(theirs, ours)
        if timm_name in named:
            raise UserError(f"{source}: holds {timm_name} twice, once as {name}; the file is broken, fetch it anew")
        named[timm_name] = value
    named.pop("mask_token", None)
    registers = named.pop("register_tokens", None)
    if registers is None:
        return named
    token, positions = named.get("cls_token"), named.get("pos_embed")
    if token is None or positions is None or positions.ndim != 3 or token.shape != positions[:, :1].shape:
        raise UserError(
            f"{source}: register_tokens without cls_token (1, 1, width) and pos_embed (1, 1 + patches, width); the "
            "file is broken, fetch it anew"
        )
    positional = {"cls_token": token + positions[:, :1], "reg_token": registers, "pos_embed": positions[:, 1:]}
    return {**named, **positional}
