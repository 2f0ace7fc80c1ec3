"""Which keys an experiment reads. A key that is given and not read gets a warning.

The experiment is the training of the stages of CFAT.STAGES and the test, whichever command runs: one file serves both.
utils/stage_identity.py lists the keys that determine the weights of each stage; such a key is read if a stage of the
experiment has it there. NEEDS adds conditions to some of these keys, has the conditions of other keys, and says in the
warning what a key is for. A key in neither table is always read.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from config.schema import make_cfg

Values = Mapping[str, Any]
Condition = Callable[[Values], bool]

# Optimizers that take a momentum: those of timm.optim.list_optimizers() whose get_optimizer_info has one.
MOMENTUM_OPTIMIZERS = {
    *("adafactorbv", "adafactorbvc", "adamuon", "bnbsgd", "bnbsgd8bit", "cadafactorbv", "cadafactorbvc", "crmsproptf"),
    *("csgdc", "csgdp", "csgdw", "fusedsgd", "kron", "kronc", "kronw", "larc", "lars", "madgrad", "madgradw"),
    *("momentum", "muon", "nadamuon", "nesterov", "nesterovw", "nlarc", "nlars", "nmuon", "rmsprop", "rmsproptf"),
    *("rmsproptfc", "rmsproptfw", "sgd", "sgdc", "sgdp", "sgdw"),
}
# Keys that ask for something only where they are True: no warning for False.
SWITCHES = {
    *(f"MODEL.{name}" for name in ("SIE_CAMERA", "SIE_VIEW", "JPM", "GEM_POOL", "STEM_RELU", "STEM_CONV")),
    *("MODEL.REDUCE_FEAT_DIM", "MODEL.PART_TOKENS"),
    *("INPUT.SELF_ID", "INPUT.AUGMIX"),
}


def _stages(values: Values) -> set[str]:
    return {*values["CFAT.STAGES"], values["CFAT.STAGE"]} - {""}


def _trained(values: Values) -> set[str]:
    """Stages that are trained, not replaced by a checkpoint."""
    return {stage for stage in _stages(values) if not values[f"CFAT.{stage.upper()}.WEIGHT"]}


def _always(values: Values) -> bool:
    return True


def _is(key: str, value: Any) -> Condition:
    return lambda values: values[key] == value


def _above_zero(key: str) -> Condition:
    return lambda values: values[key] > 0


def _fine_identity(values: Values) -> bool:
    return "align" in _stages(values) and values["CFAT.FINE.IDENTITY_WEIGHT"] > 0


def _identity_loss(values: Values) -> bool:
    return bool(_stages(values) - {"bridge"}) and (values["MODEL.ID_LOSS_WEIGHT"] > 0 or _fine_identity(values))


def _metric_loss(values: Values) -> bool:
    return values["MODEL.TRIPLET_LOSS_WEIGHT"] > 0 or _fine_identity(values)


def _tests_corrupted(values: Values) -> bool:
    return bool(values["TEST.MATRIX"]) or values["TEST.PROTOCOLS"] != ["clean"]


def _samples_tested(values: Values) -> bool:
    """Whether the test samples from CORRUPTION.TEST; protocol unseen does not."""
    return bool(values["TEST.MATRIX"]) or bool(set(values["TEST.PROTOCOLS"]) - {"clean", "unseen"})


def _needs_clean(values: Values) -> bool:
    starts_from_clean = "corrupted" in _trained(values) and values["CFAT.CORRUPTED.INIT"] == "clean"
    return bool(_stages(values) & {"clean", "bridge", "align"}) or starts_from_clean


def _needs_corrupted(values: Values) -> bool:
    student = bool(_trained(values) & {"bridge", "align"}) and values["CFAT.STUDENT_INIT"] == "corrupted"
    return "corrupted" in _stages(values) or student


def _needs_bridge(values: Values) -> bool:
    fine = any(values[f"CFAT.FINE.{name}"] > 0 for name in ("IDENTITY_WEIGHT", "KL_WEIGHT", "RECONSTRUCTION_WEIGHT"))
    return "bridge" in _stages(values) or ("align" in _trained(values) and fine)


def _needs_pretrained(values: Values) -> bool:
    corrupted = "corrupted" in _trained(values) and values["CFAT.CORRUPTED.INIT"] == "pretrained"
    return "clean" in _trained(values) or corrupted


def _is_dataset(*names: str) -> Condition:
    """Whether a training or test set is one of `names`, or a corrupted copy of one."""

    def is_one(values: Values) -> bool:
        given = (*values["DATASETS.NAMES"], *values["DATASETS.TEST"])
        return any(re.split("[-:]", name)[0].lower() in names for name in given)

    return is_one


def _is_trained(stage: str) -> Condition:
    return lambda values: stage in _trained(values)


def _trains_triplets(stage: str) -> Condition:
    return lambda values: stage in _trained(values) and values["MODEL.TRIPLET_LOSS_WEIGHT"] > 0


def _lacks_own(key: str) -> Condition:
    """Whether a trained stage has no CFAT.<STAGE>.<key> of its own, among the stages that have such a key."""
    return lambda values: any(not values.get(f"CFAT.{stage.upper()}.{key}", True) for stage in _trained(values))


_NO_LOSS = "no stage of CFAT.STAGES has an identity or triplet loss with a weight above 0 that uses it"
_NOT_INITIAL = "no stage of CFAT.STAGES starts from it"
_NOT_TRAINED = "it is for the training of stage {}, which is not trained"
_OWN = "every stage that is trained has a CFAT.<STAGE>.{} of its own"
_NOTHING_CORRUPTED = "nothing is corrupted: it is for every stage but clean, protocols other than clean and TEST.MATRIX"


def _needs(section: str, names: str, purpose: str, condition: Condition = _always) -> dict[str, tuple[str, Condition]]:
    return {f"{section}.{name}": (purpose, condition) for name in names.split()}


# Key -> what it is for, and what must hold beside utils/stage_identity.py for anything to read it.
NEEDS: dict[str, tuple[str, Condition]] = {
    **_needs(
        "MODEL",
        "TRANSFORMER_TYPE DROP_PATH DROP_OUT ATT_DROP_RATE SIE_CAMERA SIE_VIEW",
        "it is for MODEL.NAME transformer and timm",
    ),
    **_needs("MODEL", "STEM_CONV POOLING REDUCE_FEAT_DIM PART_TOKENS", "it is for MODEL.NAME transformer"),
    **_needs("MODEL", "FEAT_DIM", "it is for MODEL.REDUCE_FEAT_DIM True"),
    **_needs("MODEL", "MULTI_NECK FEAT_FUSION", "it is for MODEL.PART_TOKENS True"),
    **_needs("MODEL", "STRIDE_SIZE", "it is for MODEL.NAME transformer and timm, except for a Swin of SOLIDER"),
    **_needs("MODEL", "SEMANTIC_WEIGHT", "it is for a Swin of SOLIDER, MODEL.TRANSFORMER_TYPE swin_..."),
    **_needs("MODEL", "JPM", "it is for MODEL.NAME transformer", _is("MODEL.NAME", "transformer")),
    **_needs(
        "MODEL",
        "SIE_COE",
        "it is for MODEL.SIE_CAMERA or SIE_VIEW True of a transformer",
        lambda values: values["MODEL.SIE_CAMERA"] or values["MODEL.SIE_VIEW"],
    ),
    **_needs("MODEL", "PRETRAIN_PATH", "no stage that is trained starts from it", _needs_pretrained),
    **_needs(
        "MODEL",
        "PRETRAIN_SIZE PRETRAIN_HW_RATIO",
        "it is for MODEL.PRETRAIN_PATH of a transformer with position embeddings",
        lambda values: values["MODEL.NAME"] in ("transformer", "timm") and values["MODEL.PRETRAIN_PATH"] != "",
    ),
    **_needs("MODEL", "RE_ARRANGE DEVIDE_LENGTH", "it is for MODEL.JPM True"),
    **_needs(
        "MODEL",
        "SHIFT_NUM SHUFFLE_GROUP",
        "it is for MODEL.JPM True with RE_ARRANGE True",
        _is("MODEL.RE_ARRANGE", True),
    ),
    **_needs("MODEL", "LAST_STRIDE STEM_POOL GEM_POOL STEM_RELU", "it is for MODEL.NAME resnet50 and resnet50_ibn_a"),
    **_needs("MODEL", "ID_LOSS_TYPE IF_LABELSMOOTH", _NO_LOSS, _identity_loss),
    **_needs("MODEL", "METRIC_LOSS_TYPE", _NO_LOSS, _metric_loss),
    **_needs(
        "MODEL",
        "TRIPLET_ON",
        "no stage of CFAT.STAGES has a triplet loss with a weight above 0 and no CFAT.<STAGE>.TRIPLET_ON of its own",
        lambda values: values["MODEL.TRIPLET_LOSS_WEIGHT"] > 0 and _lacks_own("TRIPLET_ON")(values),
    ),
    **_needs("MODEL", "NO_MARGIN", "it is for MODEL.METRIC_LOSS_TYPE triplet with a weight above 0", _metric_loss),
    **_needs("MODEL", "CONSISTENCY_LOSS_WEIGHT", "it is for INPUT.SELF_ID True in stages clean and corrupted"),
    **_needs("INPUT", "ERASING_TYPE", "it is for INPUT.RE_PROB above 0", _above_zero("INPUT.RE_PROB")),
    **_needs(
        "INPUT",
        "MIXING_COEFF",
        "it is for INPUT.ERASING_TYPE soft or self with RE_PROB above 0",
        _above_zero("INPUT.RE_PROB"),
    ),
    **_needs("INPUT", "SELF_ID", "it is for stages clean and corrupted"),
    **_needs(
        "INPUT",
        "AUGMIX",
        "with INPUT.SELF_ID it is for stages clean and corrupted",
        lambda values: not values["INPUT.SELF_ID"] or bool(_stages(values) & {"clean", "corrupted"}),
    ),
    **_needs("DATASETS.CUHK03", "BOXES CLASSIC_SPLIT", "it is for DATASETS.NAMES cuhk03", _is_dataset("cuhk03")),
    **_needs("DATASETS.MSMT17", "VERSION WITH_VAL", "it is for DATASETS.NAMES msmt17", _is_dataset("msmt17")),
    **_needs("DATASETS.VEHICLEID", "TEST_SIZE", "it is for DATASETS.NAMES vehicleid", _is_dataset("vehicleid")),
    **_needs(
        "DATASETS.FOLDER", "TRAIN QUERY GALLERY PATTERN", "it is for DATASETS.NAMES folder", _is_dataset("folder")
    ),
    **_needs("DATASETS.CSV", "FILE", "it is for DATASETS.NAMES csv", _is_dataset("csv")),
    **_needs(
        "DATASETS.SPLIT", "SEED TRAIN_SHARE", "it is for DATASETS.NAMES folder and csv", _is_dataset("folder", "csv")
    ),
    **_needs(
        "DATASETS",
        "VALIDATION_SEED",
        "it is for DATASETS.VALIDATION_SHARE above 0",
        _above_zero("DATASETS.VALIDATION_SHARE"),
    ),
    **_needs("DATALOADER", "NUM_INSTANCE", "it is for DATALOADER.SAMPLER softmax_triplet"),
    **_needs("DATALOADER", "BALANCE", "it is for several DATASETS.NAMES"),
    **_needs("SOLVER", "MAX_EPOCHS", _OWN.format("MAX_EPOCHS"), _lacks_own("MAX_EPOCHS")),
    **_needs("SOLVER", "BASE_LR", _OWN.format("BASE_LR"), _lacks_own("BASE_LR")),
    **_needs(
        "SOLVER",
        "MOMENTUM",
        "SOLVER.OPTIMIZER_NAME is one without a momentum",
        lambda values: values["SOLVER.OPTIMIZER_NAME"].lower() in MOMENTUM_OPTIMIZERS,
    ),
    **_needs(
        "SOLVER",
        "LAYER_DECAY",
        "it is for MODEL.NAME transformer and timm",
        lambda values: values["MODEL.NAME"] in ("transformer", "timm"),
    ),
    **_needs("SOLVER", "STEPS GAMMA", "it is for SOLVER.SCHEDULER multistep"),
    **_needs(
        "SOLVER",
        "WARMUP_FACTOR WARMUP_FROM",
        "it is for SOLVER.WARMUP_EPOCHS above 0",
        _above_zero("SOLVER.WARMUP_EPOCHS"),
    ),
    **_needs("SOLVER", "EVAL_ON", "it is for SOLVER.EVAL_PERIOD above 0", _above_zero("SOLVER.EVAL_PERIOD")),
    **_needs("SOLVER", "MARGIN", "it is for MODEL.METRIC_LOSS_TYPE triplet with NO_MARGIN False", _metric_loss),
    **_needs("SOLVER", "HARD_FACTOR", "it is for MODEL.METRIC_LOSS_TYPE triplet with a weight above 0", _metric_loss),
    **_needs(
        "SOLVER",
        "COSINE_MARGIN COSINE_SCALE",
        "it is for the margins of MODEL.ID_LOSS_TYPE arcface, cosface, amsoftmax and circle",
        _identity_loss,
    ),
    **_needs("SOLVER", "CENTER_LOSS_WEIGHT CENTER_LR", "it is for MODEL.IF_WITH_CENTER True"),
    **_needs(
        "TEST",
        "REPEATS",
        "it is for a protocol of TEST.PROTOCOLS other than clean, and for DATASETS.NAMES vehicleid",
        lambda values: values["TEST.PROTOCOLS"] != ["clean"] or _is_dataset("vehicleid")(values),
    ),
    **_needs("TEST", "MATRIX_REPEATS", "it is for a TEST.MATRIX", lambda values: values["TEST.MATRIX"] != ""),
    **_needs(
        "TEST",
        "RE_RANKING_K1 RE_RANKING_K2 RE_RANKING_LAMBDA",
        "it is for TEST.RE_RANKING True",
        _is("TEST.RE_RANKING", True),
    ),
    **_needs(
        "CORRUPTION",
        "TRAIN",
        "it is for every stage but clean, for seen and unseen in CORRUPTION.TEST, and for protocol unseen",
    ),
    **_needs(
        "CORRUPTION", "TEST", "it is for protocols other than clean and unseen and for TEST.MATRIX", _samples_tested
    ),
    **_needs("CORRUPTION", "SEVERITIES BACKEND", _NOTHING_CORRUPTED),
    **_needs("CFAT.CLEAN", "MAX_EPOCHS BASE_LR", _NOT_TRAINED.format("clean"), _is_trained("clean")),
    **_needs(
        "CFAT.CORRUPTED",
        "MAX_EPOCHS BASE_LR INIT",
        _NOT_TRAINED.format("corrupted"),
        _is_trained("corrupted"),
    ),
    **_needs("CFAT.BRIDGE", "MAX_EPOCHS BASE_LR", _NOT_TRAINED.format("bridge"), _is_trained("bridge")),
    **_needs("CFAT.ALIGN", "MAX_EPOCHS BASE_LR", _NOT_TRAINED.format("align"), _is_trained("align")),
    **{
        f"CFAT.{stage.upper()}.TRIPLET_ON": (
            f"it is for the training of stage {stage} with MODEL.TRIPLET_LOSS_WEIGHT above 0",
            _trains_triplets(stage),
        )
        for stage in ("clean", "corrupted", "align")
    },
    **_needs("CFAT.CLEAN", "WEIGHT", _NOT_INITIAL, _needs_clean),
    **_needs("CFAT.CORRUPTED", "WEIGHT", _NOT_INITIAL, _needs_corrupted),
    **_needs("CFAT.BRIDGE", "WEIGHT", _NOT_INITIAL, _needs_bridge),
    **_needs(
        "CFAT.ALIGN", "WEIGHT", "it is for stage align, not in CFAT.STAGES", lambda values: "align" in _stages(values)
    ),
    **_needs(
        "CFAT.COARSE",
        "TEMPERATURE DETACH_WEIGHT EXCLUDE_SAME_IDENTITY",
        "it is for stage align with CFAT.COARSE.WEIGHT above 0",
        _above_zero("CFAT.COARSE.WEIGHT"),
    ),
    **_needs(
        "CFAT.LOGITS",
        "TEMPERATURE",
        "it is for stage align with CFAT.LOGITS.WEIGHT above 0",
        _above_zero("CFAT.LOGITS.WEIGHT"),
    ),
}
# Keys of the stages that the test reads too, whichever stages there are.
READ_BY_TEST: dict[str, Condition] = {
    "INPUT.SIZE_TEST": _always,
    "MODEL.CHECKPOINT_ENTRY": _always,
    "CORRUPTION.TRAIN": lambda values: (
        "unseen" in values["TEST.PROTOCOLS"]
        or (_samples_tested(values) and bool({"seen", "unseen"} & set(values["CORRUPTION.TEST"])))
    ),
    "CORRUPTION.SEVERITIES": _tests_corrupted,
    "CORRUPTION.BACKEND": _tests_corrupted,
}


def unread_keys(values: Values) -> dict[str, str]:
    """The keys that nothing in the experiment reads.

    Args:
        values: the merged and checked configuration, by dotted key.

    Returns:
        Key -> what it is for, in the order of config/defaults.py.
    """
    from utils.stage_identity import stages_that_read  # imports torch, which --help can do without

    read_by_stages = _read_by_stages(values)
    unread = {}
    for key in values:
        purpose, condition = NEEDS.get(key, ("", _always))
        stages = stages_that_read(key)
        is_read = condition(values) and (key in read_by_stages or not stages)
        is_read = is_read or (key in READ_BY_TEST and READ_BY_TEST[key](values))
        if not is_read and not (key in SWITCHES and not values[key]):
            unread[key] = purpose or _of_stages(stages)
    return unread


def _read_by_stages(values: Values) -> set[str]:
    """The keys that determine the weights of the stages of the experiment."""
    from utils.stage_identity import settings_of_stage

    cfg = make_cfg(values)
    read: set[str] = set()
    for stage in _stages(values):
        cfg.CFAT.STAGE = stage
        read |= settings_of_stage(cfg).keys()
    return read


def _of_stages(stages: Sequence[str]) -> str:
    *others, last = stages
    names = f"stages {', '.join(others)} and {last}" if others else f"stage {last}"
    return f"it is for {names}, not in CFAT.STAGES"
