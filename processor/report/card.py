"""A model card in Markdown: data, results by protocol, limits, intended use, and what the model is not for.

After Mitchell et al., Model Cards for Model Reporting, FAT* 2019, https://arxiv.org/abs/1810.03993.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import jinja2

from processor.report.facts import training_of
from processor.report.findings import METRICS, PROTOCOLS, matrices, weakest_family
from processor.report.record import Record, Training, read_record
from processor.report.run import read_run_results
from processor.results import format_evaluation
from utils.checkpoints import load_checkpoint
from utils.errors import UserError
from utils.escaping import printable
from utils.files import make_output_dir, write_files
from utils.tables import make_table

logger = logging.getLogger(__name__)

FILE = "model_card.md"
TEMPLATES = Path(__file__).parent / "templates"
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|!~])")


@dataclass(frozen=True)
class Source:
    """What a card is made from: the checkpoint and its meta, its results by data set, and the record of the test."""

    weight: str
    meta: dict
    results: dict[str, dict]
    record: Record | None = None


def write_card(source: str | Path, *, out: str | Path | None = None) -> Path:
    """Writes the model card of an OUTPUT_DIR or of a checkpoint.

    Args:
        source: the directory, or a checkpoint; results are then those of its OUTPUT_DIR, if they are of this file.
        out: the file, whose directory is created; None: model_card.md in the directory, or <checkpoint>_card.md beside
            the checkpoint.

    Returns:
        The file.

    Raises:
        UserError: neither results nor a checkpoint can be read, or the file cannot be written.
    """
    path = Path(source)
    found = _of_directory(path) if path.is_dir() else _of_checkpoint(path)
    target = Path(out) if out is not None else path / FILE if path.is_dir() else path.with_name(f"{path.stem}_card.md")
    make_output_dir(target.parent)
    text = render_card(found)
    write_files({target: lambda partial: partial.write_text(text, encoding="utf-8")}, replace=True)
    logger.info("model card: %s", target)
    return target


def _of_directory(path: Path) -> Source:
    results, record = _read(path)
    weight = next(iter(results.values())).get("weight", "")
    try:
        meta = _meta(weight) if weight else {}
    except UserError as error:
        logger.warning("%s; the card says what the results tell", error)
        meta = {}
    return Source(weight, meta, results, record)


def _of_checkpoint(path: Path) -> Source:
    """The checkpoint, with the results of the OUTPUT_DIR in which it lies, where those are its own."""
    meta, directory = _meta(path), path.parent.parent
    try:
        results, record = _read(directory)
    except UserError:
        return Source(str(path), meta, {})
    weight = Path(next(iter(results.values())).get("weight", ""))
    own = weight.name == path.name and (not weight.exists() or weight.resolve() == path.resolve())
    return Source(str(path), meta, results, record) if own else Source(str(path), meta, {})


def _read(directory: Path) -> tuple[dict[str, dict], Record | None]:
    """Results by data set and the record of a test; warns of fields that cannot be read.

    Raises:
        UserError: there are no results.
    """
    results = read_run_results(directory)
    record = read_record(directory, results.content)
    for field in (*results.left_out, *record.left_out):
        logger.warning("model card: left out: %s", field)
    return results.by_set, record.record


def _meta(path: str | Path) -> dict:
    meta = load_checkpoint(path).get("meta")
    return meta if isinstance(meta, dict) else {}


def render_card(source: Source) -> str:
    """The Markdown of a card."""
    training = training_of(source.meta) if source.meta.get("stage") else None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=False,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["plain"] = plain
    return environment.get_template("card.md").render(
        name=Path(source.weight).name,
        source=source,
        training=training,
        config=source.meta.get("config", ""),
        tables={name: _table(results) for name, results in source.results.items()},
        weakest={name: _weakest(source, name) for name in source.results},
        conventions={
            name: format_evaluation(results["evaluation"]) if results.get("evaluation") else "not recorded"
            for name, results in source.results.items()
        },
        unseen=_trains_on_all(training),
    )


def _trains_on_all(training: Training | None) -> bool:
    return training is not None and "all" in training.corruptions


def _table(results: dict) -> str:
    names = sorted(results["protocols"], key=lambda name: PROTOCOLS.index(name) if name in PROTOCOLS else 9)
    rows = []
    for name in names:
        row = results["protocols"][name]
        cells = [
            f"{100 * row[metric]['mean']:.1f}{_deviation(row, metric)}" if metric in row else "" for metric in METRICS
        ]
        rows.append([plain(name), *cells, row.get("repeats", "")])
    return make_table(["protocol", *METRICS.values(), "repeats"], rows, "lr")


def _deviation(row: dict, metric: str) -> str:
    return f" ± {100 * row[metric]['std']:.1f}" if row.get("repeats") != 1 and "std" in row[metric] else ""


def _weakest(source: Source, name: str) -> str:
    """The weakest family of a data set in a sentence; "" where it is not known."""
    results = source.results[name]
    own = source.record.sets.get(name) if source.record else None
    found = weakest_family(matrices(results, own), results)
    if found is None:
        return ""
    side = "below" if (found.drop or 0) >= 0 else "above"
    against = "" if found.drop is None else f", {abs(100 * found.drop):.1f} points {side} clean"
    return f"{plain(' and '.join(found.families).replace('_', ' '))}, mAP {100 * found.mAP:.1f}{against}"


def plain(text: object) -> str:
    """Text of others on one line, without a meaning in Markdown or HTML."""
    return _MARKUP.sub(r"\\\1", printable(text)[:500])
