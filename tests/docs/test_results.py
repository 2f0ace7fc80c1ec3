"""docs/results.py: the pages are what it makes of docs/results/, and it takes results of demos, studies, benchmarks."""

import json
import runpy

import pytest

from tests.helpers import REPOSITORY


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(REPOSITORY / "docs" / "results.py"))


@pytest.mark.parametrize(("page", "make"), [("docs/results.md", "make_page"), ("README.md", "make_readme")])
def test_pages_are_what_the_script_makes(page, make, script):
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    assert text == script[make](), "run: python docs/results.py"


def test_every_results_file_is_shown(script):
    """A file in docs/results/ that no page shows is stale."""
    pages = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "docs" / "results").glob("*.md"))
    shown = {name for name, _ in script["MARK"].findall(pages)}
    assert {path.stem for path in (REPOSITORY / "docs" / "results").glob("*.json")} <= shown


def test_numbers_of_the_demo(script):
    def metrics(value, std=0.0):
        return {metric: {"mean": value, "std": std} for metric in ("mINP", "mAP", "rank1")}

    content = {
        "baseline": {"clean": metrics(0.5), "corrupted": metrics(0.2, 0.01), "corrupted_query": metrics(0.3)},
        "cfat": {"clean": metrics(0.51), "corrupted": metrics(0.3, 0.02)},
    }
    assert script["demo_table"](content, "short").splitlines()[2:] == [
        "| clean-trained | clean | 50.00 | 50.00 | 50.00 |",
        "| clean-trained | corrupted | 20.00 ± 1.00 | 20.00 ± 1.00 | 20.00 ± 1.00 |",
        "| CFAT, `cfat_plus.yml` | clean | 51.00 | 51.00 | 51.00 |",
        "| CFAT, `cfat_plus.yml` | corrupted | 30.00 ± 2.00 | 30.00 ± 2.00 | 30.00 ± 2.00 |",
    ]
    assert len(script["demo_table"](content, None).splitlines()) == 7
    assert script["demo_ratio"](content) == (
        "Corrupted mAP, CFAT over clean-trained: 1.50 times (+10.00 points). Clean mAP: +1.00 points."
    )


def test_numbers_of_a_study(script):
    def variant(clean, corrupted, **difference):
        protocols = {"clean": {"mAP": clean}, "corrupted": {"mAP": corrupted}}
        found = {"corrupted": difference} if difference else {}
        return {
            "seeds": [1, 2],
            "protocols": protocols,
            "difference_over_seeds": {},
            "difference_within_seeds": found,
            "images_seen": 1200.0,
        }

    content = {
        "baseline": "a",
        "variants": {
            "a": variant([0.5, 0.5], [0.2, 0.3]),
            "b": variant([0.6, 0.5], [0.3, 0.3], mean=0.05, low=0, high=0.1),
        },
    }
    assert script["study_table"](content, None).splitlines()[2:] == [
        "| a (baseline) | 2 | 50.00 | 25.00 ± 7.07 | - | 1,200 |",
        "| b | 2 | 55.00 ± 7.07 | 30.00 | +5.00 [+0.00, +10.00] | 1,200 |",
    ]


def test_takes_a_demo_a_study_and_a_benchmark(script, tmp_path):
    metrics = {name: {"mean": 0.5, "std": 0.0} for name in ("mAP", "mINP", "rank1", "rank5")}
    for directory in (tmp_path / "demo", tmp_path / "demo" / "clean"):
        directory.mkdir()
        (directory / "results.json").write_text(json.dumps({"protocols": {"clean": {**metrics, "repeats": 1}}}))
    demo = script["take"](tmp_path / "demo")
    assert list(demo) == ["baseline", "cfat"]
    assert list(demo["cfat"]["clean"]) == ["mINP", "mAP", "rank1"]
    (tmp_path / "study").mkdir()
    study = {"baseline": "a", "variants": {"a": {"protocols": {"clean": {"mAP": [0.5], "rank1": [0.6]}}}}}
    (tmp_path / "study" / "study.json").write_text(json.dumps(study))
    assert script["take"](tmp_path / "study")["variants"]["a"]["protocols"] == {"clean": {"mAP": [0.5]}}
    (tmp_path / "printed.md").write_text("2 threads\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n| c |\n|---|\n| x (y) |\n")
    assert script["take"](tmp_path / "printed.md")["tables"] == [
        {"header": ["a", "b"], "rows": [["1", "2"]]},
        {"header": ["c"], "rows": [["x (y)"]]},
    ]
    with pytest.raises(Exception, match="expected the directory of a study"):
        script["take"](tmp_path / "nothing")
