"""What the names and shapes in a vision transformer's state dict tell of its structure, as keys of a configuration."""

from yacs.config import CfgNode

from model.vit_sizes import STEM_CONVOLUTION
from model.weights.file_kind import Values
from model.weights.state_dicts import State, num_rows
from utils.errors import UserError

PART_TOKEN = "part_token1"
STRUCTURE_KEYS = ("MODEL.STEM_CONV", "MODEL.POOLING", "MODEL.REDUCE_FEAT_DIM", "MODEL.PART_TOKENS")
PART_TOKEN_KEYS = ("MODEL.MULTI_NECK", "MODEL.FEAT_FUSION")


def num_position_prefix(backbone: State) -> int:
    """Positions in pos_embed that are not those of patches: the class token's and DeiT's distillation token's, or none
    where part tokens and class token have tables of their own."""
    if PART_TOKEN in backbone:
        return 0
    return 2 if "dist_token" in backbone else 1


def backbone_keys(backbone: State) -> Values:
    """The keys that a backbone's names decide."""
    return {"MODEL.STEM_CONV": STEM_CONVOLUTION in backbone, "MODEL.PART_TOKENS": PART_TOKEN in backbone}


def structure_keys(cfg: CfgNode, path: str, state: State, backbone: State, stored: Values) -> Values:
    """The keys that describe a re-identification model beside its size, stride and side information.

    No shape tells the pooling, nor how part tokens are fused where there is no classifier: then the configuration in
    the file decides it, else `cfg`.

    Raises:
        UserError: parts that no model here has together.
    """
    found = backbone_keys(backbone)
    has_parts, reduction = found["MODEL.PART_TOKENS"], state.get("fcneck.weight")
    found["MODEL.JPM"] = jigsaw = "b1.1.weight" in state
    found["MODEL.REDUCE_FEAT_DIM"] = reduction is not None
    if reduction is not None:
        found["MODEL.FEAT_DIM"] = num_rows(reduction)
    beside = {
        "a jigsaw patch module (JPM)": jigsaw and has_parts,
        "side information": "sie_embed" in backbone and has_parts,
        "a reduction of features (fcneck)": reduction is not None and (has_parts or jigsaw),
    }
    if any(beside.values()):
        others = ", ".join(name for name, is_there in beside.items() if is_there)
        owner = "part tokens (PASS)" if has_parts else "a jigsaw patch module (JPM)"
        raise UserError(f"checkpoint {path}: a model with {owner} and {others}, which is not built here")
    pooling = stored.get("MODEL.POOLING", cfg.MODEL.POOLING)
    found["MODEL.POOLING"] = "class_token" if has_parts or jigsaw else pooling
    if has_parts:
        found["MODEL.MULTI_NECK"] = "bottleneck_1.weight" in state
        found["MODEL.FEAT_FUSION"] = _fusion(state, backbone) or stored.get("MODEL.FEAT_FUSION", cfg.MODEL.FEAT_FUSION)
    return found


def _fusion(state: State, backbone: State) -> str:
    """How part tokens are fused, by the width of the classifier, or of the only neck; "" where neither is there."""
    classifier, width = state.get("classifier.weight"), backbone["cls_token"].numel()
    fused = classifier.shape[1] if classifier is not None and classifier.ndim == 2 else 0
    if not fused and "bottleneck_1.weight" not in state:
        fused = num_rows(state.get("bottleneck.weight"))
    return {width: "mean", 2 * width: "cat"}.get(fused, "")


def describe_structure(found: Values) -> list[str]:
    """What the keys say, for the log."""
    necks = "a neck each" if found.get("MODEL.MULTI_NECK") else "one neck"
    parts = {
        "stem of convolutions": found["MODEL.STEM_CONV"],
        f"part tokens ({found.get('MODEL.FEAT_FUSION')}, {necks})": found["MODEL.PART_TOKENS"],
        f"pooling {found['MODEL.POOLING']}": found["MODEL.POOLING"] != "class_token",
        f"features reduced to {found.get('MODEL.FEAT_DIM')}": found["MODEL.REDUCE_FEAT_DIM"],
    }
    return [part for part, is_there in parts.items() if is_there]


def check_structure(own: State, state: State, source: str) -> None:
    """Checks that a pretrained backbone has the stem and the tokens of the model's, whose state dict is `own`.

    Raises:
        UserError: it has not, with the key to set.
    """
    titles = {"MODEL.STEM_CONV": "a stem of convolutions (ICS)", "MODEL.PART_TOKENS": "part tokens (PASS)"}
    expected, found = backbone_keys(own), backbone_keys(state)
    for key, title in titles.items():
        if expected[key] != found[key]:
            has = f"has {title}, and the model has none" if found[key] else f"has no {title.removeprefix('a ')}"
            raise UserError(f"{source}: its backbone {has}; set {key} to {found[key]}, or give other weights")
