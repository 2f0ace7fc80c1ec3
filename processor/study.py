"""Studies: variants of an experiment over several seeds, each run once (`python -m processor study FILE`).

A study file has these keys; docs/studies.md explains them with an example.

    BASE        configuration that every variant starts from, relative to the file
    OUTPUT_DIR  directory of the study
    SEEDS       list of seeds
    COMMON      overrides of every variant: KEY: VALUE
    VARIANTS    name: {KEY: VALUE, ...}
    BASELINE    name of the variant that the others are compared with

The plan is a list of jobs, each a process: one for each distinct stage, and one test for each variant and seed. Stages
of several variants with the same settings, training set and earlier stages are one job.
"""

import functools
import hashlib
import json
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from utils.errors import UserError, did_you_mean
from utils.files import MIB, expand_path, read_text
from utils.stage_identity import FORMAT, settings_of_stage
from utils.stages import current_stage, stage_checkpoint
from utils.yaml_reader import load_mapping

KEYS = ("BASE", "OUTPUT_DIR", "SEEDS", "COMMON", "VARIANTS", "BASELINE")
REQUIRED = ("BASE", "OUTPUT_DIR", "SEEDS", "VARIANTS", "BASELINE")
OWN_KEYS = ("SEED", "OUTPUT_DIR", "SOLVER.RESUME", "TEST.WEIGHT")  # a study sets these itself
STAGES = "stages"  # directory of the trainings
DIGITS = 10  # of a digest, in names of directories
QUIET = ("UNREAD_KEYS", "ignore")  # a job is a part of its variant: the study looks at the whole
# Keys that came after studies, and the values that change nothing: with these, what is finished stays finished.
VALUES_BEFORE_KEY = {
    "UNREAD_KEYS": "warn",
    "DATASETS.VALIDATION_SHARE": 0.0,
    "DATASETS.VALIDATION_SEED": 0,
    "SOLVER.EVAL_ON": "test",
    "TEST.SPLIT": "test",
    "TEST.BASELINE": "",
    "TEST.REPORT": True,
    "TEST.STAGES": [],
    "MODEL.TRIPLET_ON": "class_token",
    "CFAT.CLEAN.TRIPLET_ON": "",
    "CFAT.CORRUPTED.TRIPLET_ON": "",
    "CFAT.ALIGN.TRIPLET_ON": "",
}
UNSAFE = set('/\\:*?"<>|\0')  # characters that a directory's name must not have


@dataclass(frozen=True)
class Study:
    """A study file.

    Attributes:
        base: configuration file.
        output_dir: directory of the study.
        seeds: in order.
        variants: name -> overrides, KEY VALUE KEY VALUE ... as on a command line, those of COMMON first.
        baseline: name of a variant.
        own_keys: name of a variant -> keys of its own overrides, without those of COMMON.
    """

    base: Path
    output_dir: Path
    seeds: tuple[int, ...]
    variants: dict[str, tuple[str, ...]]
    baseline: str
    own_keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One process of a study.

    Attributes:
        title: for messages.
        directory: its OUTPUT_DIR.
        arguments: of the Python interpreter.
        digest: of all that determines what it leaves.
        result: file that is there when it is done.
        kind: equal for the same job with another seed.
        stage: that it trains; "" for a test.
        needs: directories of the jobs before it.
    """

    title: str
    directory: Path
    arguments: tuple[str, ...]
    digest: str
    result: Path
    kind: str
    stage: str = ""
    needs: tuple[Path, ...] = ()


@dataclass
class Plan:
    """The jobs of a study.

    Attributes:
        jobs: by directory, each after those that it needs.
        tests: (variant, seed) -> directory of its test.
        stages: (variant, seed) -> directories of the stages that it trains, in order.
        splits: (variant, seed) -> what it is tested on, for messages.
    """

    jobs: dict[Path, Job] = field(default_factory=dict)
    tests: dict[tuple[str, int], Path] = field(default_factory=dict)
    stages: dict[tuple[str, int], list[Path]] = field(default_factory=dict)
    splits: dict[tuple[str, int], str] = field(default_factory=dict)


def read_study(path: str | Path) -> Study:
    """Reads and checks a study file.

    Raises:
        UserError: it cannot be read, or a key is missing, unknown or of another type.
    """
    content = load_mapping(read_text(path, max_bytes=MIB), str(path))

    def fail(reason: str) -> UserError:
        return UserError(f"{path}: {reason}")

    for key in content:
        if key not in KEYS:
            raise fail(f"{key!r:.80} is no key of a study{did_you_mean(key, KEYS)}; expected {', '.join(KEYS)}")
    missing = [key for key in REQUIRED if key not in content]
    if missing:
        raise fail(f"{', '.join(missing)} missing; a study has {', '.join(KEYS)}")
    for key in ("BASE", "OUTPUT_DIR", "BASELINE"):
        if not isinstance(content[key], str) or not content[key]:
            raise fail(f"{key}: found {content[key]!r:.80}, expected a text")
    seeds = content["SEEDS"]
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise fail(f"SEEDS: found {seeds!r:.80}, expected a list of integers of at least 0")
    if len(set(seeds)) < len(seeds):
        raise fail(f"SEEDS: {seeds} has a seed twice")
    variants = content["VARIANTS"]
    if not isinstance(variants, dict) or not variants:
        raise fail(f"VARIANTS: found {variants!r:.80}, expected names with their overrides, e.g. 'cfat: {{}}'")
    common = _overrides(content.get("COMMON"), f"{path}: COMMON")
    found, own_keys = {}, {}
    for name, value in variants.items():
        if not name or UNSAFE & set(name) or name in (".", ".."):
            raise fail(f"VARIANTS: {name!r:.80} cannot name a directory; choose letters, digits, - and _")
        if name == STAGES:
            raise fail(f"VARIANTS: {name!r} names the directory of the stages; choose another name")
        own = _overrides(value, f"{path}: VARIANTS: {name:.80}")
        found[name], own_keys[name] = (*common, *own), own[::2]
    if content["BASELINE"] not in found:
        raise fail(
            f"BASELINE {content['BASELINE']!r:.80}: no variant{did_you_mean(content['BASELINE'], found)}; expected one "
            f"of {', '.join(found)}"
        )
    return Study(
        base=Path(path).parent / expand_path(content["BASE"], f"{path}: BASE"),
        output_dir=Path(expand_path(content["OUTPUT_DIR"], f"{path}: OUTPUT_DIR")),
        seeds=tuple(seeds),
        variants=found,
        baseline=content["BASELINE"],
        own_keys=own_keys,
    )


def _overrides(value: Any, where: str) -> tuple[str, ...]:
    """KEY VALUE KEY VALUE ... of a mapping, or of a list that has them so."""
    if value is None:
        return ()
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list) and len(value) % 2 == 0 and all(isinstance(key, str) for key in value[::2]):
        pairs = list(zip(value[::2], value[1::2], strict=True))
    else:
        raise UserError(f"{where}: found {value!r:.80}, expected KEY: VALUE, or a list [KEY, VALUE, ...]")
    for key, setting in pairs:
        if key in OWN_KEYS:
            raise UserError(f"{where}: {key} is set by the study itself; leave it out")
        if setting is None or isinstance(setting, dict):
            raise UserError(
                f"{where}: {key}: found {setting!r:.80}, expected the value of one key, e.g. SOLVER.SEED: 1"
            )
    return tuple(text for key, setting in pairs for text in (key, str(setting)))


def plan_study(
    study: Study,
    stages_of: Callable[[Sequence[str]], list[CfgNode]],
    initial_weight_files: Callable[[CfgNode], dict[str, str]],
) -> Plan:
    """Lists the jobs of a study.

    Args:
        study: the study.
        stages_of: overrides -> configuration of each stage to train, in order.
        initial_weight_files: maps a stage's configuration to its initial weight files, by the key that names each.

    Raises:
        UserError: the configuration of a variant is wrong, and the message names the variant; or variants are tested on
            different splits.
    """
    plan = Plan()
    for seed in study.seeds:
        for name in study.variants:
            try:
                _add_variant(plan, study, name, seed, stages_of, initial_weight_files)
            except UserError as error:
                raise UserError(f"variant {name}: {error}") from error
    _check_splits(plan)
    return plan


def _check_splits(plan: Plan) -> None:
    """Makes sure that all variants are tested on the same split: test sets, or the same held-back identities."""
    names: dict[str, list[str]] = {}
    for (name, _), split in plan.splits.items():
        names.setdefault(split, []).append(name)
    if len(names) > 1:
        found = "; ".join(f"{', '.join(dict.fromkeys(own))} on {split}" for split, own in names.items())
        raise UserError(
            f"a study compares variants on one split: found {found}; set TEST.SPLIT (and for validation "
            "DATASETS.VALIDATION_SHARE and VALIDATION_SEED) in COMMON"
        )


def _tested_split(cfg: CfgNode) -> str:
    if cfg.TEST.SPLIT == "test":
        return "the test set"
    share, seed = cfg.DATASETS.VALIDATION_SHARE, cfg.DATASETS.VALIDATION_SEED
    return f"validation (VALIDATION_SHARE {share:g}, VALIDATION_SEED {seed})"


def _add_variant(plan: Plan, study: Study, name: str, seed: int, stages_of: Callable, weight_files: Callable) -> None:
    """Adds the jobs of one variant and seed to the plan."""
    directory = study.output_dir / name / f"seed{seed}"
    own = (*study.variants[name], "SEED", str(seed))
    checkpoints: dict[str, Path] = {}  # as the variant alone would have them -> of the job
    plan.stages[name, seed] = []
    last, tested = "", ""
    for cfg in stages_of((*own, "OUTPUT_DIR", str(directory))):
        on_validation = cfg.TEST.SPLIT == "validation"
        tests = cfg.DATASETS.NAMES if on_validation else cfg.DATASETS.TEST or cfg.DATASETS.NAMES
        if len(tests) > 1:
            advice = "train on one" if on_validation else "name it in DATASETS.TEST"
            raise UserError(
                f"it tests on {', '.join(tests)}; a study compares variants on one {cfg.TEST.SPLIT} set: {advice}"
            )
        plan.splits[name, seed] = _tested_split(cfg)
        stage = current_stage(cfg).name
        files = weight_files(cfg)
        before = {key: checkpoints[path] for key, path in files.items() if path in checkpoints}
        inputs = {key: plan.jobs[path.parent.parent].digest for key, path in before.items()}
        inputs |= {key: path for key, path in files.items() if key not in before}
        digest, kind = _digests(cfg, inputs, {key: plan.jobs[path.parent.parent].kind for key, path in before.items()})
        place = study.output_dir / STAGES / f"{stage}-seed{seed}-{digest[:DIGITS]}"
        result = place / Path(stage_checkpoint(cfg)).relative_to(directory)
        weights = [text for key, path in before.items() for text in (key, str(path))]
        opts = (*own, "CFAT.STAGES", f"['{stage}']", *weights, "TEST.PROTOCOLS", "['clean']", "TEST.MATRIX", "")
        opts = (*opts, "TEST.RANKED_QUERIES", "0", "TEST.ATTENTION_QUERIES", "0", "TEST.BASELINE", "")
        opts = (*opts, "TEST.STAGES", "[]", *QUIET, "OUTPUT_DIR", str(place))
        plan.jobs.setdefault(
            place,
            Job(
                title=f"stage {stage} of {name}, seed {seed}",
                directory=place,
                arguments=("train.py", "--config_file", str(study.base), *opts, "SOLVER.RESUME", "auto"),
                digest=digest,
                result=result,
                kind=kind,
                stage=stage,
                needs=tuple(path.parent.parent for path in before.values()),
            ),
        )
        checkpoints[stage_checkpoint(cfg)] = result
        plan.stages[name, seed].append(place)
        last, tested = str(result), _without_later_keys(cfg).dump()  # what the test reads too, with every _BASE_
    if not last:
        raise UserError("it trains no stage: CFAT.STAGES is empty, or every stage of it has a WEIGHT")
    opts = (*own, "TEST.WEIGHT", last, *QUIET, "OUTPUT_DIR", str(directory))
    plan.jobs[directory] = Job(
        title=f"test of {name}, seed {seed}",
        directory=directory,
        arguments=("test.py", "--config_file", str(study.base), *opts),
        digest=_sha256([plan.jobs[plan.stages[name, seed][-1]].digest, tested]),
        result=directory / "results.json",
        kind=_sha256(["test", study.variants[name]]),
        needs=(plan.stages[name, seed][-1],),
    )
    plan.tests[name, seed] = directory


def _digests(cfg: CfgNode, inputs: Mapping[str, str], kinds: Mapping[str, str]) -> tuple[str, str]:
    """Digest of a stage, from what determines its weights, and its kind, which does not depend on the seed."""
    settings = {"stage": current_stage(cfg).name, "format": FORMAT, **settings_of_stage(cfg)}
    known = _without_later_keys(cfg).DATASETS
    data = {"datasets": {name: value for name, value in known.items() if name != "TEST"}}
    without_seed = {key: value for key, value in settings.items() if key != "SEED"}
    return _sha256([settings, data, inputs]), _sha256([without_seed, data, {**inputs, **kinds}])


def _without_later_keys(cfg: CfgNode) -> CfgNode:
    """A clone without the keys of VALUES_BEFORE_KEY that have the value there."""
    known = cfg.clone()
    known.defrost()
    for key, value in VALUES_BEFORE_KEY.items():
        *sections, name = key.split(".")
        node = functools.reduce(operator.getitem, sections, known)
        if node[name] == value:
            del node[name]
    return known


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
