"""The page: sections of one run, or of several that are compared, rendered by Jinja2 from templates/page.html."""

import base64
import functools
import hashlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from processor.report import charts
from processor.report.findings import METRICS, describe
from processor.report.run import PLACES, Run, read_runs
from processor.report.sets import SetReport
from processor.report.text import MINUS, MISSING
from processor.state_checks import flat_config
from utils.errors import UserError
from utils.escaping import printable
from utils.files import make_output_dir, write_files

logger = logging.getLogger(__name__)

FILE = "report.html"
COMPARISON = "comparison.html"
TEMPLATES = Path(__file__).parent / "templates"
MAX_LEFT_OUT = 50  # named on the page
GALLERIES = 10  # shown; the others are folded away
MIN_END, MAX_END = 7, 24  # letters at the end of a path that stay together
# Of the first screen of each data set: id, macro, title.
PARTS = (
    ("headline", "headline", "Results"),
    ("weakest-family", "weakest", "Weakest corruption family"),
    ("worst-query", "worst", "Worst-hit query"),
)


@dataclass(frozen=True)
class Section:
    """A section of the page, or a part of its first screen.

    Attributes:
        id: unique on the page.
        title: its heading.
        html: its content.
        reason: why there is none, "" where there is.
    """

    id: str
    title: str
    html: Markup
    reason: str = ""


def write_report(directories: Sequence[str | Path], *, defaults: str, out: str | Path | None = None) -> Path:
    """Writes the report of a finished OUTPUT_DIR, with others compared beside it.

    Args:
        directories: the run of the report first.
        defaults: text of the configuration with no key given.
        out: the file, whose directory is created; None: report.html in the directory, or comparison.html in the first
            one of several.

    Returns:
        The file.

    Raises:
        UserError: the results.json of a directory cannot be read, or the file cannot be written.
    """
    runs = read_runs(list(dict.fromkeys(map(str, directories))))
    path = Path(out) if out is not None else Path(directories[0]) / (FILE if len(runs) == 1 else COMPARISON)
    make_output_dir(path.parent)
    page = render(runs, flat_config(defaults) if defaults else {})
    write_files({path: lambda partial: partial.write_text(page.text, encoding="utf-8")}, replace=True)
    if page.left_out:
        first, count = page.left_out[0], len(page.left_out)
        more = f"; and {count - 1} more, see Warnings on the page" if count > 1 else ""
        logger.warning("report: left out: %s%s", first, more)
    logger.info("report: %s", path)
    return path


@dataclass(frozen=True)
class Page:
    """A report: its HTML, and what of the runs is not on it since it cannot be read or shown."""

    text: str
    left_out: list[str]


def render(runs: Sequence[Run], defaults: Mapping[str, Any]) -> Page:
    """The report of runs. Whatever their files hold, it costs the section that shows it and no other."""
    first = runs[0]
    several = len(first.results) > 1
    sets = [SetReport(runs, name, number if several else 0) for number, name in enumerate(first.results, start=1)]
    environment = _environment()
    shared = {
        "runs": runs,
        "run": first,
        "sets": sets,
        "metrics": METRICS,
        "describe": describe,
        "shown": GALLERIES,
    }
    macros = environment.get_template("sections.html").make_module(shared)
    labels = [f"{run.label}: " if len(runs) > 1 else "" for run in runs]
    left_out = [
        f"{run.label}: its results are on {', '.join(run.results)}, not on {', '.join(first.results)}; compare runs of "
        "one data set"
        for run in runs
        if not run.results.keys() & first.results.keys()
    ]
    left_out += [f"{label}{field}" for run, label in zip(runs, labels, strict=True) for field in run.left_out]

    def make(id_: str, kind: str, title: str, data: Callable[[], Any]) -> Section:
        try:
            return Section(id_, title, getattr(macros, kind)(id_, data()))
        except UserError as error:
            return Section(id_, title, Markup(), str(error))
        except Exception as error:  # files of an earlier version, or damaged ones that the schemas accept
            reason = f"it could not be made ({type(error).__name__}: {error})"[:500]
            left_out.append(f"{title}: {reason}; test again with this version, or mend the files of the run")
            return Section(id_, title, Markup(), reason)

    def first_screen(one: SetReport) -> dict[str, Any]:
        parts = [make(f"{one.prefix}{id_}", kind, title, lambda: one) for id_, kind, title in PARTS]
        return {"set": one, "parts": parts}

    screens = [first_screen(one) for one in sets]
    top = {kind: make(kind, kind, title, lambda: runs) for kind, title in (("facts", "Facts"), ("command", "Command"))}
    sections = [make(*described) for one in sets for described in one.sections()]
    sections.append(make("training", "training", "Learning curves and schedule", lambda: charts.training(runs)))
    last = [
        make("run", "run", "What was run", lambda: runs),
        make("configuration", "configuration", "Configuration", lambda: _configuration(runs, defaults)),
    ]
    shown = left_out[:MAX_LEFT_OUT]
    if len(left_out) > MAX_LEFT_OUT:
        shown.append(f"and {len(left_out) - MAX_LEFT_OUT} more")
    warnings = make("warnings", "warnings", "Warnings of the run", lambda: {"run": first, "left_out": shown})
    script, style = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.js", "report.css"))
    text = environment.get_template("page.html").render(
        **shared,
        **top,
        screens=screens,
        sections=[*sections, warnings, *last],
        left_out=len(left_out),
        title=f"{first.label} on {', '.join(one.title for one in sets)}",
        script=Markup(script),
        style=Markup(style),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return Page(text, left_out)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters |= {
        "percent": _percent,
        "points": _points,
        "words": lambda text: str(text).replace("_", " "),
        "breaks": _breaks,
        "lines": lambda text: Markup("\n").join(printable(line) for line in text.split("\n")),
        "thousands": lambda n: f"{n:,}",
    }
    return environment


def _finalize(value: Any) -> Any:
    """Text of files without characters that HTML does not allow; markup is the page's own."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else printable(value)


def _breaks(text: object) -> Markup:
    """A path, a name or a key that breaks between its parts, and never near its end, as within a file's extension."""
    *parts, last = re.split(r"(?<=[/_.-])(?=.)", printable(text))
    while parts and len(last) < MIN_END:
        last = parts.pop() + last
    whole = Markup('<span class="whole">{}</span>').format(last) if len(last) <= MAX_END else escape(last)
    return Markup("<wbr>").join([*parts, whole])


def _percent(value: float | None, digits: int = 1) -> str:
    return MISSING if value is None else f"{100 * value:.{digits}f}"


def _points(value: float | None) -> str:
    """A difference of fractions in points, with its sign."""
    return MISSING if value is None else f"{100 * value:+.1f}".replace("-", MINUS)


def _configuration(runs: Sequence[Run], defaults: Mapping[str, Any]) -> Any:
    first = runs[0]
    if not first.config:
        raise UserError("config.yml of the run cannot be read")
    keys = sorted({key for run in runs for key in run.differences(defaults)})
    rows = [
        (key, str(defaults.get(key, MISSING)), [dict(run.differences(defaults)).get(key, ("", ""))[0] for run in runs])
        for key in keys
    ]
    varied = [row for row in rows if len(set(row[2])) > 1 and row[0] not in PLACES]
    return {"rows": rows, "varied": varied, "text": first.config_text}
