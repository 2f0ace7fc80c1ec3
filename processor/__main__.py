"""Studies, reports and model cards from the command line.

python -m processor study configs/Synthetic/ablation.yml [--jobs N] [--dry-run] [--variants a,b] [--seeds 1,2]
                                        run every variant with every seed, each once, and write the tables
python -m processor report DIR [DIR ...] [--out FILE]
                                        the page of a finished OUTPUT_DIR, or of several that are compared
python -m processor report --card DIR_OR_CHECKPOINT
                                        a model card in Markdown

A study that was stopped goes on where it stopped. --variants and --seeds run a part of it, and the tables have all that
is finished. --dry-run looks for the data sets and shows the plan with times: those of finished jobs, else estimates
from two batches of each stage.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from utils.command_line import ArgumentParser, expand_arguments, run_main
from utils.errors import UserError
from utils.files import expand_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yacs.config import CfgNode

    from processor.study import Plan, Study

PLAN_WIDTH = 120  # characters of the plan's table


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(
        prog="python -m processor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    keys = "the file sets keys, in COMMON or a variant"
    study = commands.add_parser("study", help="run variants of an experiment over several seeds", keys=keys)
    study.add_argument("file", help="the study, e.g. configs/Synthetic/ablation.yml")
    study.add_argument("--jobs", type=int, default=1, help="processes at a time (default: %(default)s)")
    study.add_argument("--variants", type=_names, default=(), metavar="A,B", help="run these alone")
    study.add_argument("--seeds", type=_seeds, default=(), metavar="1,2", help="run these alone")
    study.add_argument("--dry-run", action="store_true", help="show the plan, and stop")
    report = commands.add_parser("report", help="write report.html of finished runs, or a model card")
    report.add_argument("directories", nargs="+", metavar="DIR", help="OUTPUT_DIR of a test, and others to compare")
    report.add_argument("--card", action="store_true", help="write a model card of an OUTPUT_DIR or a checkpoint")
    report.add_argument("--out", metavar="FILE", help="file (default: report.html in DIR, comparison.html of several)")
    return parser.parse_args(argv)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(name) for name in _names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"found {text!r:.80}, expected integers, e.g. 1,2") from None


def main(argv: list[str] | None = None) -> int:
    args = expand_arguments(parse_args(argv), "file", "out")
    from utils.logging import setup_logging

    if args.command == "report":
        setup_logging()
        return report(args)
    if args.jobs < 1:
        raise UserError(f"--jobs {args.jobs}: expected at least 1")
    setup_logging()
    return study(args)


def report(args: argparse.Namespace) -> int:
    """Writes a report, or a model card."""
    from config import get_defaults
    from processor.report import write_card, write_report

    directories = [expand_path(directory, "DIR") for directory in args.directories]
    if not args.card:
        write_report(directories, defaults=get_defaults().dump(), out=args.out)
        return 0
    if len(directories) > 1:
        raise UserError(f"--card: found {len(directories)} directories, expected one OUTPUT_DIR or checkpoint")
    write_card(directories[0], out=args.out)
    return 0


def study(args: argparse.Namespace) -> int:
    """Runs a study; returns 1 where a job failed."""
    from processor.study import read_study
    from processor.study_parts import select
    from processor.study_results import collect, write_study
    from processor.study_runner import run_jobs
    from utils.locks import lock_output_dir

    plan = make_plan(found := read_study(args.file))
    part = select(found, plan, variants=args.variants, seeds=args.seeds)
    warn_of_unread_keys(found)
    if args.dry_run:
        missing = find_missing_data(found, part)
        print("\n".join([*missing, describe_plan(found, part, measured=not missing)]))
        return int(bool(missing))
    with lock_output_dir(found.output_dir):
        try:
            errors = run_jobs(part, at_once=args.jobs)
        finally:  # also of a study that is stopped: what is done is shown
            results = collect(found, plan)
            if results:
                print(write_study(found, plan, results))
                print(f"all in {found.output_dir}: study.csv, study.json, study.md, study.tex, study.png")
    if errors:
        print(
            f"{len(errors)} of {len(part.jobs)} jobs failed, or need one that did; the log above says why",
            file=sys.stderr,
        )
    return int(bool(errors))


def make_plan(study: "Study") -> "Plan":
    """The plan of a study, with the configurations of its variants loaded and checked."""
    import logging

    from config import load_cfg, stage_cfg, stages_to_run
    from model import initial_weight_files
    from processor.study import plan_study

    def stages_of(opts: "Sequence[str]") -> "list[CfgNode]":
        cfg = load_cfg(str(study.base), opts)
        return [stage_cfg(cfg, name) for name in stages_to_run(cfg)]

    logging.disable(logging.WARNING)  # each job logs what its configuration says, warn_of_unread_keys the rest
    try:
        return plan_study(study, stages_of, initial_weight_files)
    finally:
        logging.disable(logging.NOTSET)


def warn_of_unread_keys(study: "Study") -> None:
    """Warns once of each key of a study that changes nothing."""
    import logging

    from config import find_unread
    from processor.study_parts import unread_overrides

    def unread(opts: "Sequence[str]") -> dict[str, str]:
        return {key: purpose for key, (_, purpose) in find_unread(str(study.base), opts).items()}

    for line in unread_overrides(study, unread):
        logging.getLogger(__name__).warning("%s", line)


def find_missing_data(study: "Study", plan: "Plan") -> list[str]:
    """What of the data sets that the variants of a plan name is missing, each once."""
    import logging

    from config import load_cfg
    from datasets import find_missing

    unchecked = ("DATASETS.CHECK_IMAGES", "False", "DATASETS.ON_BAD_IMAGE", "error")
    errors: dict[str, str] = {}  # by the DATASETS section
    logging.disable(logging.WARNING)
    try:
        for name in dict.fromkeys(name for name, _ in plan.tests):
            cfg = load_cfg(str(study.base), (*study.variants[name], *unchecked))
            if (section := cfg.DATASETS.dump()) not in errors:
                error = find_missing(cfg)
                errors[section] = error and f"data of variant {name}: {error}"
    finally:
        logging.disable(logging.NOTSET)
    return [error for error in errors.values() if error]


def describe_plan(study: "Study", plan: "Plan", *, measured: bool = True) -> str:
    """The jobs of a study, which are done, and how long the others take.

    Args:
        study: the study.
        plan: its jobs, or a part of them.
        measured: estimate the time of stages that no seed has finished, from two batches of each.
    """
    from processor.study_runner import measure, seconds_of
    from utils.logging import format_seconds
    from utils.tables import make_table

    known = measure(study, plan) if measured else {}
    known |= {job.kind: seconds for job in plan.jobs.values() if (seconds := seconds_of(job)) is not None}
    rows, left, unknown = [], 0.0, 0
    for place, job in plan.jobs.items():
        users = [f"{name}" for (name, seed), stages in plan.stages.items() if place in stages]
        done = seconds_of(job)
        estimate = known.get(job.kind)
        state = "done" if done is not None else "to run"
        if done is None:
            left, unknown = left + (estimate or 0.0), unknown + (estimate is None)
        time = "not known" if estimate is None else format_seconds(done if done is not None else estimate)
        rows.append([job.title, ", ".join(users), state, time])
    table = make_table(["job", "variants", "state", "time"], rows, "lllr", wrap=1, width=PLAN_WIDTH)
    runs, variants = len(plan.tests), len({name for name, _ in plan.tests})
    alone = sum(map(len, plan.stages.values()))
    shared = f"{runs} runs of {variants} variants: {len(plan.jobs) - runs} stages to train, {alone} if none "
    shared += "were shared"
    more = f", and {unknown} jobs whose time is known once one of their kind is done" if unknown else ""
    return f"{table}\n{shared}\nleft, one at a time: about {format_seconds(left)}{more}"


if __name__ == "__main__":
    sys.exit(run_main(main))
