"""Which keys an experiment reads: every key is always read, or stands here with the values under which it is.

The experiment is the training of the stages of CFAT.STAGES and the test, whichever command runs: a file serves both.
"""

from collections.abc import Callable, Mapping
from typing import Any

Values = Mapping[str, Any]
Condition = tuple[Callable[[Values], bool], str]

# Optimizers that take a momentum: those of timm.optim.list_optimizers() whose get_optimizer_info has one.
MOMENTUM_OPTIMIZERS = {
    *("adafactorbv", "adafactorbvc", "adamuon", "bnbsgd", "bnbsgd8bit", "cadafactorbv", "cadafactorbvc", "crmsproptf"),
    *("csgdc", "csgdp", "csgdw", "fusedsgd", "kron", "kronc", "kronw", "larc", "lars", "madgrad", "madgradw"),
    *("momentum", "muon", "nadamuon", "nesterov", "nesterovw", "nlarc", "nlars", "nmuon", "rmsprop", "rmsproptf"),
    *("rmsproptfc", "rmsproptfw", "sgd", "sgdc", "sgdp", "sgdw"),
}


def _stages(values: Values) -> set[str]:
    """Stages that the experiment has."""
    return {*values["CFAT.STAGES"], values["CFAT.STAGE"]} - {""}


def _trained(values: Values) -> set[str]:
    """Stages that are trained, not replaced by a file."""
    return {stage for stage in _stages(values) if not values[f"CFAT.{stage.upper()}.WEIGHT"]}


def _transformer(values: Values) -> bool:
    return values["MODEL.NAME"] == "transformer"


def _resnet(values: Values) -> bool:
    return values["MODEL.NAME"] == "resnet50"


def _jigsaw(values: Values) -> bool:
    return _transformer(values) and values["MODEL.JPM"]


def _identity_stages(values: Values) -> set[str]:
    return _stages(values) - {"bridge"}


def _fine_identity(values: Values) -> bool:
    return "align" in _stages(values) and values["CFAT.FINE.IDENTITY_WEIGHT"] > 0


def _identity_loss(values: Values) -> bool:
    return bool(_identity_stages(values)) and (values["MODEL.ID_LOSS_WEIGHT"] > 0 or _fine_identity(values))


def _metric_loss(values: Values) -> bool:
    return bool(_identity_stages(values)) and (values["MODEL.TRIPLET_LOSS_WEIGHT"] > 0 or _fine_identity(values))


def _triplet(values: Values) -> bool:
    return _metric_loss(values) and values["MODEL.METRIC_LOSS_TYPE"] == "triplet"


def _cosines(values: Values) -> bool:
    return _identity_loss(values) and values["MODEL.ID_LOSS_TYPE"] != "softmax"


def _center(values: Values) -> bool:
    return bool(_identity_stages(values)) and values["MODEL.IF_WITH_CENTER"]


def _self_id(values: Values) -> bool:
    return bool(_stages(values) & {"clean", "corrupted"}) and values["INPUT.SELF_ID"]


def _train_corrupted(values: Values) -> bool:
    return bool(_stages(values) - {"clean"})


def _tests_corrupted(values: Values) -> bool:
    return bool(values["TEST.MATRIX"]) or list(values["TEST.PROTOCOLS"]) != ["clean"]


def _tests_by_training_types(values: Values) -> bool:
    return _tests_corrupted(values) and bool({"seen", "unseen"} & set(values["CORRUPTION.TEST"]))


def _coarse(values: Values) -> bool:
    return "align" in _stages(values) and values["CFAT.COARSE.WEIGHT"] > 0


def _from_bridge(values: Values) -> bool:
    fine = ("IDENTITY_WEIGHT", "KL_WEIGHT", "RECONSTRUCTION_WEIGHT")
    return "align" in _trained(values) and any(values[f"CFAT.FINE.{name}"] > 0 for name in fine)


def _dataset(*names: str) -> Condition:
    def used(values: Values) -> bool:
        return values["DATASETS.NAMES"].split("-")[0] in names

    return used, f"it is for DATASETS.NAMES {' and '.join(names)}"


def _any_stage(*stages: str) -> Condition:
    def has(values: Values) -> bool:
        return bool(_stages(values) & set(stages))

    return has, f"it is for {'stage' if len(stages) == 1 else 'stages'} {' and '.join(stages)}, not in CFAT.STAGES"


def _own(stage: str, key: str) -> Condition:
    return lambda values: stage in _trained(values), f"{key} is for the training of stage {stage}, which is not trained"


def _if_on(key: str, used: Callable[[Values], bool], reads: str) -> Condition:
    """A switch that says nothing where it is off."""
    return lambda values: not values[key] or used(values), reads


_OF_TRANSFORMER = "it is for MODEL.NAME transformer"
_OF_RESNET = "it is for MODEL.NAME resnet50"
_OF_IDENTITIES = "no stage of CFAT.STAGES has an identity or triplet loss with a weight above 0 that uses it"
_ALIGNING = _any_stage("bridge", "align")

READ_WHEN: dict[str, Condition] = {
    **{
        f"MODEL.{name}": (_transformer, _OF_TRANSFORMER)
        for name in ("TRANSFORMER_TYPE", "STRIDE_SIZE", "DROP_PATH", "DROP_OUT", "ATT_DROP_RATE")
    },
    **{f"MODEL.{name}": _if_on(f"MODEL.{name}", _transformer, _OF_TRANSFORMER) for name in ("SIE_CAMERA", "SIE_VIEW")},
    "MODEL.SIE_COE": (
        lambda values: _transformer(values) and (values["MODEL.SIE_CAMERA"] or values["MODEL.SIE_VIEW"]),
        "it is for MODEL.SIE_CAMERA or SIE_VIEW True of a transformer",
    ),
    "MODEL.PRETRAIN_PATH": (
        lambda values: (
            "clean" in _trained(values)
            or ("corrupted" in _trained(values) and values["CFAT.CORRUPTED.INIT"] == "pretrained")
        ),
        "no stage that is trained starts from it",
    ),
    "MODEL.JPM": _if_on("MODEL.JPM", _transformer, _OF_TRANSFORMER),
    **dict.fromkeys(("MODEL.RE_ARRANGE", "MODEL.DEVIDE_LENGTH"), (_jigsaw, "it is for MODEL.JPM True")),
    **dict.fromkeys(
        ("MODEL.SHIFT_NUM", "MODEL.SHUFFLE_GROUP"),
        (
            lambda values: _jigsaw(values) and values["MODEL.RE_ARRANGE"],
            "it is for MODEL.JPM True with RE_ARRANGE True",
        ),
    ),
    "MODEL.PRETRAIN_SIZE": (
        lambda values: _transformer(values) and bool(values["MODEL.PRETRAIN_PATH"]),
        "it is for MODEL.PRETRAIN_PATH of a transformer",
    ),
    **dict.fromkeys(("MODEL.LAST_STRIDE", "MODEL.STEM_POOL"), (_resnet, _OF_RESNET)),
    **{f"MODEL.{name}": _if_on(f"MODEL.{name}", _resnet, _OF_RESNET) for name in ("GEM_POOL", "STEM_RELU")},
    **{f"MODEL.{name}": (_identity_loss, _OF_IDENTITIES) for name in ("ID_LOSS_TYPE", "IF_LABELSMOOTH")},
    "MODEL.METRIC_LOSS_TYPE": (_metric_loss, _OF_IDENTITIES),
    **{
        f"MODEL.{name}": (lambda values: bool(_identity_stages(values)), "it is for every stage but bridge")
        for name in ("ID_LOSS_WEIGHT", "TRIPLET_LOSS_WEIGHT", "IF_WITH_CENTER")
    },
    "MODEL.CONSISTENCY_LOSS_WEIGHT": (_self_id, "it is for INPUT.SELF_ID True in stages clean and corrupted"),
    "MODEL.NO_MARGIN": (_triplet, "it is for MODEL.METRIC_LOSS_TYPE triplet with a weight above 0"),
    "INPUT.ERASING_TYPE": (lambda values: values["INPUT.RE_PROB"] > 0, "it is for INPUT.RE_PROB above 0"),
    "INPUT.MIXING_COEFF": (
        lambda values: values["INPUT.RE_PROB"] > 0 and values["INPUT.ERASING_TYPE"] != "normal",
        "it is for INPUT.ERASING_TYPE soft or self with RE_PROB above 0",
    ),
    "INPUT.PAIRED_GEOMETRY": (_train_corrupted, "it is for stages with corrupted views: every stage but clean"),
    "INPUT.SELF_ID": _if_on(
        "INPUT.SELF_ID",
        lambda values: bool(_stages(values) & {"clean", "corrupted"}),
        "it is for stages clean and corrupted",
    ),
    "INPUT.AUGMIX": _if_on(
        "INPUT.AUGMIX",
        lambda values: not values["INPUT.SELF_ID"] or bool(_stages(values) & {"clean", "corrupted"}),
        "with INPUT.SELF_ID it is for stages clean and corrupted",
    ),
    **{f"DATASETS.CUHK03.{name}": _dataset("cuhk03") for name in ("BOXES", "CLASSIC_SPLIT")},
    **{f"DATASETS.MSMT17.{name}": _dataset("msmt17") for name in ("VERSION", "WITH_VAL")},
    **{f"DATASETS.FOLDER.{name}": _dataset("folder") for name in ("TRAIN", "QUERY", "GALLERY", "PATTERN")},
    "DATASETS.CSV.FILE": _dataset("csv"),
    **{f"DATASETS.SPLIT.{name}": _dataset("folder", "csv") for name in ("SEED", "TRAIN_SHARE")},
    "DATALOADER.NUM_INSTANCE": (
        lambda values: values["DATALOADER.SAMPLER"] == "softmax_triplet",
        "it is for DATALOADER.SAMPLER softmax_triplet",
    ),
    **{
        f"SOLVER.{key}": (
            lambda values, key=key: any(not values[f"CFAT.{stage.upper()}.{key}"] for stage in _trained(values)),
            f"every stage that is trained has a CFAT.<STAGE>.{key} of its own",
        )
        for key in ("MAX_EPOCHS", "BASE_LR")
    },
    "SOLVER.MOMENTUM": (
        lambda values: values["SOLVER.OPTIMIZER_NAME"].lower() in MOMENTUM_OPTIMIZERS,
        "SOLVER.OPTIMIZER_NAME is one without a momentum",
    ),
    "SOLVER.LAYER_DECAY": (_transformer, _OF_TRANSFORMER),
    **dict.fromkeys(
        ("SOLVER.STEPS", "SOLVER.GAMMA"),
        (lambda values: values["SOLVER.SCHEDULER"] == "multistep", "it is for SOLVER.SCHEDULER multistep"),
    ),
    "SOLVER.WARMUP_FACTOR": (
        lambda values: values["SOLVER.WARMUP_EPOCHS"] > 0,
        "it is for SOLVER.WARMUP_EPOCHS above 0",
    ),
    "SOLVER.MARGIN": (
        lambda values: _triplet(values) and not values["MODEL.NO_MARGIN"],
        "it is for MODEL.METRIC_LOSS_TYPE triplet with NO_MARGIN False",
    ),
    "SOLVER.HARD_FACTOR": (_triplet, "it is for MODEL.METRIC_LOSS_TYPE triplet with a weight above 0"),
    **dict.fromkeys(
        ("SOLVER.COSINE_MARGIN", "SOLVER.COSINE_SCALE"),
        (_cosines, "it is for the margins of MODEL.ID_LOSS_TYPE arcface, cosface, amsoftmax and circle"),
    ),
    **dict.fromkeys(
        ("SOLVER.CENTER_LOSS_WEIGHT", "SOLVER.CENTER_LR"), (_center, "it is for MODEL.IF_WITH_CENTER True")
    ),
    "TEST.REPEATS": (
        lambda values: list(values["TEST.PROTOCOLS"]) != ["clean"],
        "it is for a protocol of TEST.PROTOCOLS other than clean",
    ),
    "TEST.MATRIX_REPEATS": (lambda values: bool(values["TEST.MATRIX"]), "it is for a TEST.MATRIX"),
    **{
        f"TEST.RE_RANKING_{name}": (lambda values: values["TEST.RE_RANKING"], "it is for TEST.RE_RANKING True")
        for name in ("K1", "K2", "LAMBDA")
    },
    "CORRUPTION.TRAIN": (
        lambda values: _train_corrupted(values) or _tests_by_training_types(values),
        "it is for every stage but clean, and for seen and unseen in CORRUPTION.TEST",
    ),
    "CORRUPTION.TEST": (_tests_corrupted, "it is for protocols other than clean and for TEST.MATRIX"),
    **dict.fromkeys(
        ("CORRUPTION.SEVERITIES", "CORRUPTION.BACKEND"),
        (
            lambda values: _train_corrupted(values) or _tests_corrupted(values),
            "nothing is corrupted: it is for every stage but clean, protocols other than clean and TEST.MATRIX",
        ),
    ),
    "CORRUPTION.CLEAN_PROB": (_train_corrupted, "it is for every stage but clean"),
    **{
        f"CFAT.{stage.upper()}.{key}": _own(stage, "it")
        for stage in ("clean", "corrupted", "bridge", "align")
        for key in ("MAX_EPOCHS", "BASE_LR")
    },
    "CFAT.CLEAN.WEIGHT": (
        lambda values: (
            bool(_stages(values) & {"clean", "bridge", "align"})
            or ("corrupted" in _trained(values) and values["CFAT.CORRUPTED.INIT"] == "clean")
        ),
        "no stage of CFAT.STAGES starts from it",
    ),
    "CFAT.CORRUPTED.WEIGHT": (
        lambda values: (
            "corrupted" in _stages(values)
            or (bool(_trained(values) & {"bridge", "align"}) and values["CFAT.STUDENT_INIT"] == "corrupted")
        ),
        "no stage of CFAT.STAGES starts from it",
    ),
    "CFAT.BRIDGE.WEIGHT": (
        lambda values: "bridge" in _stages(values) or _from_bridge(values),
        "no stage of CFAT.STAGES starts from it",
    ),
    "CFAT.ALIGN.WEIGHT": _any_stage("align"),
    "CFAT.CORRUPTED.INIT": _own("corrupted", "it"),
    "CFAT.STUDENT_INIT": _ALIGNING,
    "CFAT.STUDENT_VIEWS": _any_stage("align"),
    "CFAT.COARSE.WEIGHT": _any_stage("align"),
    **{
        f"CFAT.COARSE.{name}": (_coarse, "it is for stage align with CFAT.COARSE.WEIGHT above 0")
        for name in ("TEMPERATURE", "DETACH_WEIGHT", "EXCLUDE_SAME_IDENTITY")
    },
    "CFAT.FINE.IDENTITY_WEIGHT": _any_stage("align"),
    "CFAT.FINE.PRIOR_WEIGHT": _any_stage("bridge"),
    **{
        f"CFAT.FINE.{name}": _ALIGNING
        for name in ("KL_WEIGHT", "RECONSTRUCTION_WEIGHT", "HIDDEN_DIM", "LATENT_DIM", "BRIDGE_T", "NOISE", "RELEASED")
    },
    **{f"CFAT.COSINE.{name}": _any_stage("align") for name in ("CLASS_WEIGHT", "PATCH_WEIGHT")},
}


def unread_keys(values: Values) -> dict[str, str]:
    """The keys that nothing reads in an experiment, with what each is for.

    Args:
        values: the merged configuration, flat and checked.
    """
    return {key: reads for key, (is_read, reads) in READ_WHEN.items() if not is_read(values)}
