"""Writes docs/results.md, and the blocks of numbers in README.md, from the results in docs/results/.

python docs/results.py                                      both pages again
python docs/results.py --take demo-1=logs/demo              and first take the results of `make demo`
python docs/results.py --take ablation=logs/ablation        of a study
python docs/results.py --take corruption=logs/corruption.md of a benchmark: what it printed

docs/results/page.md and readme-*.md are the texts, with a line such as <!-- demo-1 --> where a table belongs;
<!-- corruption 2 --> is the second table of docs/results/corruption.json. A new result needs such a line there.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

sys.path.insert(0, str(Path(__file__).parents[1]))

from utils.errors import UserError
from utils.files import MIB, read_json_object, read_text

HERE = Path(__file__).parent
RESULTS = HERE / "results"
README = HERE.parent / "README.md"
BLOCK = re.compile(r"(<!-- (?P<name>\w+): begin -->\n).*?(<!-- \w+: end -->)", re.DOTALL)
METRICS = ("mINP", "mAP", "rank1")
MARK = re.compile(r"^<!-- (?P<name>[\w-]+)(?: (?P<view>[\w-]+))? -->$", re.MULTILINE)
# What, against what, unit, then file, table, and (row, column) of our number and of the other.
SPEED = (
    ("a corrupted image of 128 x 64", "imagecorruptions 1.1.2", "ms", "corruption", 0, ((-1, 2), (-1, 1))),
    ("a corrupted image of 256 x 128", "imagecorruptions 1.1.2", "ms", "corruption", 1, ((-1, 2), (-1, 1))),
    ("training pairs of 256 x 128, 2 workers", "the same loader with it", "pairs/s", "loader", 1, ((-1, 2), (-1, 4))),
    ("metrics of 3,368 x 15,913 distances", "numpy.argsort alone", "s", "evaluator", 0, ((1, 1), (0, 1))),
    ("metrics of 11,659 x 82,161 features", "their product alone", "s", "evaluator", 1, ((1, 1), (0, 1))),
)
MODELS = {"baseline": "clean-trained", "cfat": "CFAT, `cfat_plus.yml`"}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def percent(value: dict[str, float]) -> str:
    """A {"mean", "std"} of fractions; without a deviation where there is one repeat."""
    text = f"{100 * value['mean']:.2f}"
    return f"{text} ± {100 * value['std']:.2f}" if value["std"] else text


def demo_table(content: dict, view: str | None) -> str:
    """Protocols of both models; view `short`: clean and corrupted alone."""
    rows = []
    for model, title in MODELS.items():
        for protocol, metrics in content[model].items():
            if view != "short" or protocol in ("clean", "corrupted"):
                rows.append([title, protocol, *(percent(metrics[metric]) for metric in METRICS)])
    return markdown(["checkpoint", "protocol", "mINP", "mAP", "Rank-1"], rows)


def demo_ratio(content: dict) -> str:
    """Corrupted mAP of CFAT over that of the clean-trained model, in words, and the difference on clean images."""
    corrupted, clean = (
        [content[model][protocol]["mAP"]["mean"] for model in ("cfat", "baseline")]
        for protocol in ("corrupted", "clean")
    )
    return (
        f"Corrupted mAP, CFAT over clean-trained: {corrupted[0] / corrupted[1]:.2f} times "
        f"({100 * (corrupted[0] - corrupted[1]):+.2f} points). Clean mAP: {100 * (clean[0] - clean[1]):+.2f} points."
    )


def study_table(content: dict, view: str | None) -> str:
    """mAP of every variant and protocol, mean ± standard deviation over the seeds, and differences to the baseline."""
    variants = content["variants"]
    protocols = list(next(iter(variants.values()))["protocols"])
    compared = [name for name in protocols if name != "clean"] if view != "short" else ["corrupted"]
    header = ["variant", "seeds", *(f"mAP {name}" for name in protocols)]
    header += [f"{name}, difference [95 %]" for name in compared]
    rows = []
    for name, variant in variants.items():
        row = [f"{name} (baseline)" if name == content["baseline"] else name, str(len(variant["seeds"]))]
        row += [percent(over_seeds(variant["protocols"][protocol]["mAP"])) for protocol in protocols]
        intervals = variant["difference_over_seeds"] or variant["difference_within_seeds"]
        row += [interval(intervals.get(protocol)) for protocol in compared]
        rows.append([*row, "-" if variant["images_seen"] is None else f"{variant['images_seen']:,.0f}"])
    return markdown([*header, "images seen"], rows)


def over_seeds(values: list[float]) -> dict[str, float]:
    return {"mean": mean(values), "std": stdev(values) if len(values) > 1 else 0.0}


def interval(found: dict[str, float] | None) -> str:
    if found is None:
        return "-"
    return "{mean:+.2f} [{low:+.2f}, {high:+.2f}]".format(**{key: 100 * value for key, value in found.items()})


def render(name: str, view: str | None) -> str:
    """What replaces a mark of a page."""
    if name == "speed":
        return speed_table()
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        return "*Not measured yet.*"
    content = read_json_object(path, max_bytes=MIB)
    if "cfat" in content:
        return demo_ratio(content) if view == "ratio" else demo_table(content, view)
    if "variants" in content:
        return study_table(content, view)
    table = content["tables"][int(view or 1) - 1]
    return markdown(table["header"], table["rows"])


def speed_table() -> str:
    """Ours against others, from the cells of benchmark tables that SPEED names."""
    rows = []
    for what, other, unit, name, number, (ours, theirs) in SPEED:
        table = read_json_object(RESULTS / f"{name}.json", max_bytes=MIB)["tables"][number]["rows"]
        cells = [table[row][column].split()[0] for row, column in (ours, theirs)]
        first, second = map(float, cells)
        ratio = first / second if unit.endswith("/s") else second / first
        rows.append([what, other, *(f"{cell} {unit}" for cell in cells), f"{ratio:.3g}"])
    return markdown(["", "against", "here", "there", "times as fast"], rows)


def fill(template: str) -> str:
    return MARK.sub(lambda mark: render(mark["name"], mark["view"]), template)


def make_page() -> str:
    """The text of docs/results.md."""
    return fill(read_text(RESULTS / "page.md", max_bytes=MIB))


def make_readme() -> str:
    """The text of README.md with its blocks of numbers made again from docs/results/readme-NAME.md."""

    def block(match: re.Match) -> str:
        template = read_text(RESULTS / f"readme-{match['name']}.md", max_bytes=MIB)
        return f"{match[1]}{fill(template)}{match[3]}"

    return BLOCK.sub(block, read_text(README, max_bytes=MIB))


def take(source: Path) -> dict:
    """The results of a demo, a study or a benchmark, as docs/results/ keeps them."""
    if (source / "study.json").is_file():
        content = read_json_object(source / "study.json", max_bytes=MIB)
        for variant in content["variants"].values():
            variant["protocols"] = {key: {"mAP": value["mAP"]} for key, value in variant["protocols"].items()}
        return content
    if (source / "results.json").is_file():
        places = {"baseline": source / "clean", "cfat": source}
        return {model: _protocols(place) for model, place in places.items()}
    if source.is_file():
        return {"tables": read_tables(read_text(source, max_bytes=MIB))}
    raise UserError(f"{source}: expected the directory of a study or of `make demo`, or what a benchmark printed")


def _protocols(directory: Path) -> dict:
    found = read_json_object(directory / "results.json", max_bytes=MIB)["protocols"]
    return {name: {metric: metrics[metric] for metric in METRICS} for name, metrics in found.items()}


def read_tables(text: str) -> list[dict]:
    """The Markdown tables of a text, each with `header` and `rows`."""
    tables = []
    for lines in re.findall(r"(?:^\|.*\|\n?)+", text, re.MULTILINE):
        header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines.splitlines()]
        tables.append({"header": header, "rows": rows})
    return tables


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--take", action="append", default=[], metavar="NAME=RESULTS", help="new results, see above")
    for item in parser.parse_args(argv).take:
        name, _, source = item.partition("=")
        path = RESULTS / f"{name}.json"
        path.write_text(json.dumps(take(Path(source)), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (HERE / "results.md").write_text(make_page(), encoding="utf-8")
    README.write_text(make_readme(), encoding="utf-8")


if __name__ == "__main__":
    main()
