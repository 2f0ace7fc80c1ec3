"""Names of published files, translated to those of this project's models where they differ.

SOLIDER's Swin has its own names here; parameters that no feature of it uses are left out. Swin files of Microsoft
(https://github.com/microsoft/Swin-Transformer) and of timm are turned into it. Image encoders of CLIP
(https://github.com/openai/CLIP) and CLIP-ReID get timm's names; their text towers and prompts are left out. The
blocks of DINOv2's training files lie in chunks, which are taken out; its other names are turned into timm's by timm.
"""

import re
from collections import Counter
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
# Of CLIP's image encoder, without what stands before it: visual. (OpenAI) or image_encoder. (CLIP-ReID).
_CLIP_NAMES = (
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^conv1\.", "patch_embed.proj."),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)
_CLIP_SIDE = "cv_embed"
_TEXTS = ("prompt_learner.", "text_encoder.")
# blocks.CHUNK.N. of DINOv2 (https://github.com/facebookresearch/dinov2, dinov2/models/vision_transformer.py): N counts
# through all chunks.
_CHUNK = re.compile(r"^blocks\.\d+\.(?=\d+\.)")
_DOWNSAMPLE = re.compile(r"^layers\.(\d)\.downsample\.")


def to_own_names(state: State) -> tuple[State, tuple[str, ...]]:
    """The state dict under the names of this project's models.

    Returns:
        The state dict, and for the log the names of the file that it lacks because nothing uses them.
    """
    for recognises, translate in _TRANSLATIONS:
        if recognises(state):
            own, unused = translate(state)
            return own, _without_numbers(unused)
    return state, ()


def _without_numbers(names: tuple[str, ...]) -> tuple[str, ...]:
    """One name for names that differ in numbers alone, with their count: stages.N.blocks.N.x (24)."""
    counts = Counter(re.sub(r"\d+", "N", name) for name in names)
    return tuple(f"{name} ({count})" if count > 1 else name for name, count in counts.items())


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
        made[_renamed(name, _SWIN_NAMES)] = value
    return made, unused


def _renamed(name: str, names: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in names:
        name = re.sub(pattern, replacement, name)
    return name


def _merged_by_channel(value: torch.Tensor) -> torch.Tensor:
    """Reorders the 4 C numbers of the last dimension: from neighbour by neighbour, down the columns, to channel by
    channel, along the rows."""
    if not any(_has_dims(value, count) for count in (1, 2)) or value.shape[-1] % 4:
        return value
    neighbours = value.unflatten(-1, (2, 2, -1)).transpose(-2, -3)  # (..., row, column, C)
    return neighbours.flatten(-3, -2).transpose(-1, -2).flatten(-2)  # (..., C 4)


def _has_chunks(state: State) -> bool:
    blocks = [name for name in state if name.startswith("blocks.")]
    return "cls_token" in state and bool(blocks) and all(map(_CHUNK.match, blocks))


def _without_chunks(state: State) -> tuple[State, tuple[str, ...]]:
    made = {_CHUNK.sub("blocks.", name): value for name, value in state.items()}
    return made if len(made) == len(state) else state, ()  # two blocks of one number: the loader names them


def _is_clip(state: State) -> bool:
    return "visual.class_embedding" in state


def _is_clip_reid(state: State) -> bool:
    return "image_encoder.class_embedding" in state


def _from_clip(state: State) -> tuple[State, tuple[str, ...]]:
    """The image encoder of a CLIP, as a bare backbone."""
    return _encoder_names(state, "visual.", "")


def _from_clip_reid(state: State) -> tuple[State, tuple[str, ...]]:
    """A re-identification model of CLIP-ReID."""
    made, others = _encoder_names(state, "image_encoder.", "base.")
    heads = {name: state[name] for name in others if not name.startswith(_TEXTS)}
    if _CLIP_SIDE in heads:
        side = heads.pop(_CLIP_SIDE)
        made["base.sie_embed"] = side[:, None] if _has_dims(side, 2) else side  # (R, D) -> (R, 1, D)
    return {**made, **heads}, tuple(name for name in others if name.startswith(_TEXTS))


def _encoder_names(state: State, prefix: str, new_prefix: str) -> tuple[State, tuple[str, ...]]:
    """The encoder below `prefix` under timm's names below `new_prefix`, and the other names of the file."""
    made: State = {}
    for name, value in state.items():
        if name.startswith(prefix):
            own = _renamed(name.removeprefix(prefix), _CLIP_NAMES)
            if own == "cls_token" and _has_dims(value, 1):
                value = value[None, None]  # (D,) -> (1, 1, D)
            elif own == "pos_embed" and _has_dims(value, 2):
                value = value[None]  # (1 + P, D) -> (1, 1 + P, D)
            made[new_prefix + own] = value
    return made, tuple(name for name in state if not name.startswith(prefix))


def _has_dims(value: torch.Tensor, count: int) -> bool:
    """Whether a tensor has the form of a published file; one of another stays as it is, and the loader names it."""
    return value.ndim == count and value.layout == torch.strided


_TRANSLATIONS: tuple[tuple[Callable[[State], bool], Callable[[State], tuple[State, tuple[str, ...]]]], ...] = (
    (_is_solider_swin, _without_unused),
    (_is_microsoft_swin, _from_microsoft_swin),
    (_is_clip, _from_clip),
    (_is_clip_reid, _from_clip_reid),
    (_has_chunks, _without_chunks),
)
