"""Names of published files, translated to those of this project's models where they differ.

SOLIDER's Swin has its own names here; parameters that no feature of it uses are left out. Swin files of Microsoft
(https://github.com/microsoft/Swin-Transformer) and of timm are turned into it.
"""

import re
from collections.abc import Callable

import torch

from model.weights.state_dicts import State

# Of a Swin: norms and semantic layers of maps that do not reach the feature, and tables that the code computes.
_UNUSED_IN_SWIN = re.compile(
    r"(base\.)?(norm[012]\.|semantic_embed_[wb]\.3\.|(stages|layers)\..*(\.relative_position_index|\.attn_mask)$)"
)
_SWIN_NAMES = (
    (r"^layers\.", "stages."),
    (r"\.attn\.", ".attn.w_msa."),
    (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
    (r"\.mlp\.fc2\.", ".ffn.layers.1."),
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^norm\.", "norm3."),
)
_DOWNSAMPLE = re.compile(r"^layers\.(\d)\.downsample\.")


def to_own_names(state: State) -> tuple[State, tuple[str, ...]]:
    """The state dict under the names of this project's models.

    Returns:
        The state dict, and the names of the file that it lacks because nothing uses them.
    """
    for recognises, translate in _TRANSLATIONS:
        if recognises(state):
            return translate(state)
    return state, ()


def _is_solider_swin(state: State) -> bool:
    name = "stages.0.blocks.0.attn.w_msa.qkv.weight"
    return name in state or f"base.{name}" in state


def _is_microsoft_swin(state: State) -> bool:
    return "layers.0.blocks.0.attn.qkv.weight" in state


def _without_unused(state: State) -> tuple[State, tuple[str, ...]]:
    unused = tuple(name for name in state if _UNUSED_IN_SWIN.match(name))
    return {name: value for name, value in state.items() if name not in unused}, unused


def _from_microsoft_swin(state: State) -> tuple[State, tuple[str, ...]]:
    used, unused = _without_unused(state)
    # A merging belongs to the stage before it; timm counts it to the stage after it.
    shift = 1 if "layers.3.downsample.reduction.weight" in state else 0
    made: State = {}
    for name, value in used.items():
        if found := _DOWNSAMPLE.match(name):
            name = f"layers.{int(found[1]) - shift}.downsample.{name[found.end() :]}"
            value = _merged_by_channel(value)
        for pattern, replacement in _SWIN_NAMES:
            name = re.sub(pattern, replacement, name)
        made[name] = value
    return made, unused


def _merged_by_channel(value: torch.Tensor) -> torch.Tensor:
    """Reorders the 4 C numbers of the last dimension: from neighbour by neighbour, down the columns, to channel by
    channel, along the rows."""
    if not value.ndim or value.shape[-1] % 4:
        return value  # of a broken file; the loader names it
    neighbours = value.unflatten(-1, (2, 2, -1)).transpose(-2, -3)  # (..., row, column, C)
    return neighbours.flatten(-3, -2).transpose(-1, -2).flatten(-2)  # (..., C 4)


_TRANSLATIONS: tuple[tuple[Callable[[State], bool], Callable[[State], tuple[State, tuple[str, ...]]]], ...] = (
    (_is_solider_swin, _without_unused),
    (_is_microsoft_swin, _from_microsoft_swin),
)
