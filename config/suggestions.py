"""Error texts for keys that are not known: the likeliest spelling, or what the key means in another project."""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping

from config.legacy_keys import CODEBASE_KEYS
from config.schema import Key
from config.values import describe_type

# Similarity (0 to 1) of two last names, of the words in them, and of two sections, from which one counts as a
# misspelling of the other.
_LEAF, _WORD, _SECTION = 0.77, 0.6, 0.75
_MAX_NAME = 80  # characters; no key is longer

# Projects whose files have another structure: their name, a pattern of keys that only they have, and why they do not
# load here.
_SCHEMAS = (
    ("a study", r"VARIANTS(\..+)?", "it is run by python -m processor study FILE"),
    (
        "fast-reid",
        r"MODEL\.(META_ARCHITECTURE|(BACKBONE|HEADS|LOSSES)\..+|FREEZE_LAYERS)|INPUT\.REA\..+|DATALOADER\.SAMPLER_TRAIN"
        r"|DATASETS\.TESTS|TEST\.(RERANK|AQE)\..+|SOLVER\.(OPT|SCHED)|KD\..+",
        "its models and keys are different",
    ),
    ("CLIP-ReID", r"SOLVER\.STAGE[12]\..+", "its training with text prompts is not built here"),
    (
        "HRNet's pose estimation",
        r"MODEL\.(EXTRA\..+|NUM_JOINTS|HEATMAP_SIZE)|TEST\.OKS_THRE",
        "it estimates poses, which is not built here",
    ),
)

# Keys of relatives of the TransReID codebase -> what they mean here; a name that ends in . is a section.
_RELATIVES = {
    "MODEL.WEIGHT": "a trained model goes into TEST.WEIGHT, initial weights into MODEL.PRETRAIN_PATH",
    "MODEL.PRETRAINED": "initial weights go into MODEL.PRETRAIN_PATH",
    "MODEL.I2T_LOSS_WEIGHT": "the weight of CLIP-ReID's text prompts, which are not built here",
    "SMALL.": "a second model beside MODEL is not built here",
    "SOLVER.AM_S": "the scale of cosines is SOLVER.COSINE_SCALE",
    "SOLVER.AM_M": "the margin on cosines is SOLVER.COSINE_MARGIN",
    "DATASETS.TRAIN_FOLDER": "directories of your own are DATASETS.NAMES folder and DATASETS.FOLDER.TRAIN",
    "DATASETS.QUERY_FOLDER": "directories of your own are DATASETS.NAMES folder and DATASETS.FOLDER.QUERY",
    "DATASETS.GALLERY_FOLDER": "directories of your own are DATASETS.NAMES folder and DATASETS.FOLDER.GALLERY",
    **dict.fromkeys(
        [f"DATASETS.{name}" for name in ("TRAIN", "TRAIN_NAMES", "VAL_NAMES", "SOURCE_NAMES")],
        "data sets are named by DATASETS.NAMES, and those of the test, where they are others, by DATASETS.TEST",
    ),
    "DATALOADER.K": "images of each identity in a batch: DATALOADER.NUM_INSTANCE",
    "AUTO_RESUME": "to resume where a run stopped: SOLVER.RESUME auto",
    "CUDNN.": "cuDNN needs no keys; SOLVER.DETERMINISTIC asks for the same bits every time",
    "WANDB.": "runs are logged to TensorBoard, log.txt and results.json",
    "GPUS": "CUDA_VISIBLE_DEVICES chooses GPUs",
    "WORKERS": "worker processes: DATALOADER.NUM_WORKERS",
}


def foreign_schema(source: str, given: Collection[str]) -> str:
    """One line about a file whose keys are of a project with another structure; "" for other files."""
    for project, pattern, meaning in _SCHEMAS:
        signs = [key for key in given if re.fullmatch(pattern, key[:_MAX_NAME])]
        if signs:
            return (
                f"{source}: a file of {project} ({', '.join(signs[:3])}{', ...' if len(signs) > 3 else ''}): {meaning}"
                "; start from a file of configs/, config/defaults.py explains its keys"
            )
    return ""


def misplaced_key(key: str, schema: Mapping[str, Key]) -> str:
    """What is wrong with a value for a section, or with keys below a key; "" for a key that is not known at all."""
    inside = next((known for known in schema if known.startswith(f"{key}.")), "") if key.isupper() else ""
    if inside:
        return f"{key} is a section, expected its keys, e.g. {inside}"
    parent = next((parent for end in range(len(key)) if key[end] == "." and (parent := key[:end]) in schema), "")
    if parent:
        return f"{key}: {parent} is a key with a value, not a section; expected {describe_type(schema[parent])}"
    return ""


def unknown_key(key: str, meant: str, schema: Mapping[str, Key]) -> str:
    """Says that a key is not known, and what may be meant.

    Args:
        key: dotted.
        meant: what `nearest_known` found.
        schema: every key by its dotted name.
    """
    unknown = f"{key:.80} is not a known key"
    meaning = _RELATIVES.get(key) or _RELATIVES.get(f"{key.split('.')[0]}.")
    for project, pattern, reason in _SCHEMAS:
        if re.fullmatch(pattern, key[:_MAX_NAME]):
            meaning = f"it is one of {project}: {reason}"
    if meaning:
        return f"{unknown}: {meaning}"
    if meant:
        return f"{unknown}; did you mean {meant}?"
    sections = ", ".join(dict.fromkeys(known.split(".")[0] for known in schema))
    return f"{unknown}; config/defaults.py explains every key of {sections}"


def nearest_known(key: str, schema: Mapping[str, Key]) -> str:
    """The key, ours or the codebase's, that an unknown one is a misspelling of; "" where there is none, and where the
    key is known to mean something else."""
    known_elsewhere = key in _RELATIVES or f"{key.split('.')[0]}." in _RELATIVES
    return "" if known_elsewhere else nearest_key(key, (*schema, *CODEBASE_KEYS))


def nearest_key(key: str, known_keys: Iterable[str]) -> str:
    """The known key that `key` is a misspelling of; "" where there is none.

    The last names must be similar. So must the sections, unless one is left out, or the last name is the same and
    specific enough: MODEL.BASE_LR means SOLVER.BASE_LR, but SOLVER.NAME may mean anything.
    """
    if len(key) > _MAX_NAME:
        return ""
    section, _, leaf = key.upper().rpartition(".")
    found: list[tuple[float, float, bool, str]] = []
    for known in known_keys:
        known_section, _, known_leaf = known.upper().rpartition(".")
        similarity = _leaf_similarity(leaf, known_leaf)
        if similarity < _LEAF:
            continue
        of_sections = _section_similarity(section, known_section)
        if of_sections >= _SECTION or (similarity == 1 and "_" in leaf):
            found.append((similarity, of_sections, section == known_section, known))  # seed is SEED before SOLVER.SEED
    return max(found)[-1] if found else ""


def _leaf_similarity(leaf: str, known: str) -> float:
    """Similarity of two last names; 0 where one has more words: PRETRAIN_PATH_T is not a misspelt PRETRAIN_PATH."""
    if leaf == known:
        return 1.0
    if 2 * min(len(leaf), len(known)) < _LEAF * (len(leaf) + len(known)):
        return 0.0  # names of such lengths cannot be similar enough
    words, known_words = leaf.split("_"), known.split("_")
    if set(words) < set(known_words) or set(words) > set(known_words):
        return 0.0
    if len(words) == len(known_words) and min(map(_ratio, words, known_words)) < _WORD:
        return 0.0  # BATCH_DROP_RATE is not a misspelt ATT_DROP_RATE
    return _ratio(leaf, known)


def _section_similarity(section: str, known: str) -> float:
    if not section or section == known or known.startswith(f"{section}."):
        return 1.0
    return _ratio(section, known)


def is_misspelt_section(name: str, section: str) -> bool:
    """Whether a section of a file is one of ours or a misspelling of it: MODEL, Model, tMODEL."""
    return len(name) <= _MAX_NAME and _ratio(name.upper(), section) >= _SECTION


def _ratio(text: str, known: str) -> float:
    return difflib.SequenceMatcher(None, known, text, autojunk=False).ratio()
