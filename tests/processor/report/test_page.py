"""report.html: valid, self-contained, and with the numbers of results.json; sections without data say why."""

import json
import re
import shutil

import html5lib
import pytest

from config import get_defaults
from processor.report import write_card, write_report
from processor.report.findings import Matrix, MatrixCell, weakest_family
from processor.report.page import _breaks
from processor.report.record import FILE as RECORD
from processor.report.record import digest
from tests.processor.small_report import COMMAND, write_small_report
from tests.processor.small_run import MeanColour
from utils.errors import UserError

KINDS = (
    *("protocols", "corruption", "heatmap", "seen", "gallery", "attention", "cmc", "distances", "training"),
    *("warnings", "run", "configuration"),
)


def parse(path):
    """The page, parsed strictly: any error of the HTML specification raises."""
    text = path.read_text(encoding="utf-8")
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return text, parser.parse(text)


def all_text(element):
    return " ".join("".join(element.itertext()).split())


def by_id(tree, name):
    (found,) = [element for element in tree.iter() if element.get("id") == name]
    return found


def defaults():
    return get_defaults().dump()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("report")
    return directory, write_small_report(directory)


def test_the_page_is_valid_and_asks_for_nothing(run):
    text, tree = parse(run[0] / "report.html")
    ids = [element.get("id") for element in tree.iter() if element.get("id")]
    assert sorted(ids) == sorted(set(ids))
    links = [element.get(name) for element in tree.iter() for name in ("href", "src") if element.get(name)]
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in links)
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert not re.search(r"url\((?!#)", text)
    assert "default-src 'none'" in text
    assert tree.get("lang") == "en"


def test_people_who_do_not_see_it_can_read_it(run):
    _, tree = parse(run[0] / "report.html")
    images = list(tree.iter("img"))
    assert len(images) > 20
    assert all(image.get("alt") for image in images)
    assert all(header.get("scope") for header in tree.iter("th"))
    for table in tree.iter("table"):
        assert any(header.get("scope") in ("row", "rowgroup") for header in table.iter("th"))
    for figure in tree.iter("{http://www.w3.org/2000/svg}svg"):
        assert figure.get("role") == "img"
        title = by_id(tree, figure.get("aria-labelledby"))
        assert len(all_text(title)) > 10


def test_no_section_is_missing_and_tables_have_the_numbers(run):
    directory, results = run
    _, tree = parse(directory / "report.html")
    assert [element.get("id") for element in tree.iter("section")] == list(KINDS)
    assert [all_text(element) for element in tree.iter() if element.get("class") == "missing"] == []
    rows = by_id(tree, "protocols-table").findall(".//tbody/tr")
    for row, (name, means) in zip(rows, results["protocols"].items(), strict=True):
        assert all_text(row.find("th")) == name.replace("_", " ")
        values = [float(cell.get("data-value")) for cell in row.findall("td") if cell.get("data-value")]
        assert values == [means[metric]["mean"] for metric in ("mINP", "mAP", "rank1", "rank5", "rank10")]
    cells = [float(cell.get("data-value")) for cell in by_id(tree, "heatmap-1-mAP").findall(".//tbody/tr/td")]
    assert len(cells) == 3 * 5  # weather and its two types, digital and pixelate: two severities and a mean
    matrix = results["matrix"]["mAP"]
    expected = {name: [*values, sum(values) / 2] for name, values in matrix.items()}
    family = results["summary"]["matrix"]["family"]
    assert cells[:3][-1] == pytest.approx(family["weather"]["mAP"])
    assert cells[3:6] == pytest.approx(expected["fog"])
    assert cells[12:15] == pytest.approx(expected["pixelate"])


def test_the_first_screen(run):
    directory, results = run
    _, tree = parse(directory / "report.html")
    families = results["summary"]["matrix"]["family"]
    lowest = f"{100 * min(means['mAP'] for means in families.values()):.1f}"
    said = all_text(by_id(tree, "weakest-family"))
    weakest = said.removeprefix("Weakest corruption family ").split(f"mAP {lowest}")[0]
    tied = {name for name, means in families.items() if f"{100 * means['mAP']:.1f}" == lowest}
    assert {name for name in families if name in weakest} == tied
    assert all_text(by_id(tree, "command")) == COMMAND
    assert "Worst-hit query" in all_text(by_id(tree, "worst-query"))
    shown = json.loads((directory / RECORD).read_text())["sets"]["rendered"]["galleries"]
    drops = [one["clean"]["ap"] - one["corrupted"]["ap"] for one in shown]
    assert drops == sorted(drops, reverse=True)
    assert f"Identity {shown[0]['pid']}" in all_text(by_id(tree, "worst-query"))


def test_a_gallery_is_the_ranked_one(run):
    directory, _ = run
    record = json.loads((directory / RECORD).read_text())["sets"]["rendered"]
    for one in record["galleries"]:
        for side in (one["clean"], one["corrupted"]):
            assert [match["right"] for match in side["top"]] == [match["pid"] == one["pid"] for match in side["top"]]
            hits = [place for place, match in enumerate(side["top"], start=1) if match["right"]]
            assert hits[:1] == [side["first"]] * bool(hits)
    cells = record["cells"]["corrupted"]
    assert sum(cell["queries"] for cell in cells) == 2 * 4  # repeats x queries
    assert {(cell["corruption"], cell["severity"]) for cell in cells} == {
        *(("fog", 1), ("fog", 4), ("pixelate", 4), ("rain", 4))
    }


def test_distances_count_every_pair(run):
    record = json.loads((run[0] / RECORD).read_text())["sets"]["rendered"]["distances"]["clean"]
    assert (sum(record["same"]), sum(record["different"])) == (4 * 2, 4 * 6)
    assert len(record["edges"]) == len(record["same"]) + 1


def test_sections_without_data_say_why(tmp_path):
    write_small_report(tmp_path, "TEST.MATRIX", "", model=MeanColour(), protocols=("clean",))
    _, tree = parse(tmp_path / "report.html")
    missing = {
        section.get("id"): all_text(paragraph)
        for section in tree.iter("section")
        for paragraph in section.findall("p")
        if paragraph.get("class") == "missing"
    }
    assert missing.keys() == {"corruption", "heatmap", "seen", "gallery", "attention"}
    assert "protocol clean and a corrupted one" in missing["gallery"]
    assert "vision transformer" in missing["attention"]


def test_a_report_of_an_earlier_version_or_of_another_test(run, tmp_path):
    directory = shutil.copytree(run[0], tmp_path / "run")
    for name in ("report_data.json", "history.json", "config.yml", "per_query.npz"):
        (directory / name).unlink()
    text, tree = parse(write_report([directory], defaults=defaults()))
    assert "there is no report_data.json" in text
    assert len(by_id(tree, "protocols-table").findall(".//tbody/tr")) == 3
    shutil.copy(run[0] / RECORD, directory)
    results = json.loads((directory / "results.json").read_text())
    (directory / "results.json").write_text(json.dumps(results | {"seed": 99}))
    text, _ = parse(write_report([directory], defaults=defaults()))
    assert "belongs to another test than results.json" in text
    (directory / RECORD).write_text('{"results": 3}')
    text, _ = parse(write_report([directory], defaults=defaults()))
    assert "cannot be read (results: Input should be a valid string, found 3)" in text


def test_runs_that_are_compared(run, tmp_path):
    other = shutil.copytree(run[0], tmp_path / "other")
    (other / RECORD).unlink()
    content = json.loads((other / "results.json").read_text())
    content["protocols"]["corrupted"]["mAP"]["mean"] = 0.01
    (other / "results.json").write_text(json.dumps(content))
    first = shutil.copytree(run[0], tmp_path / "first")
    path = write_report([first, other], defaults=defaults())
    assert path == first / "comparison.html"
    _, tree = parse(path)
    rows = by_id(tree, "headline").findall(".//tbody/tr")
    cells = [row.findall("td") for row in rows]  # run, mAP, Rank-1
    assert [all_text(row[0]).split("/")[-1] for row in cells] == ["first", "other"] * 3
    assert [all_text(row.find("th")) for row in rows[::2]] == ["clean", "corrupted", "corrupted query"]
    best = {
        (number, at) for number, row in enumerate(cells) for at, cell in enumerate(row) if cell.get("class") == "best"
    }
    assert best == {(2, 1)}  # mAP of the first run, corrupted; the other values are equal


def test_each_run_says_which_types_its_training_saw(run, tmp_path):
    first, other = (shutil.copytree(run[0], tmp_path / name) for name in ("first", "other"))
    for place, seen in ((first, 20), (other, 0)):
        results = json.loads((place / "results.json").read_text())
        results["seen_in_training"] = {"corrupted": {"seen": seen, "of": 20}}
        (place / "results.json").write_text(json.dumps(results))
    text, _ = parse(write_report([first, other], defaults=defaults()))
    assert re.search(r"types seen in training: \S*first: corrupted 20 of 20; \S*other: corrupted 0 of 20\.", text)
    text, _ = parse(write_report([other], defaults=defaults()))
    assert "types seen in training: corrupted 0 of 20." in text


def test_a_run_on_another_data_set_is_warned_of(run, tmp_path, caplog):
    first, other = (shutil.copytree(run[0], tmp_path / name) for name in ("first", "other"))
    results = json.loads((other / "results.json").read_text()) | {"dataset": "photos"}
    (other / "results.json").write_text(json.dumps(results))
    text, _ = parse(write_report([first, other], defaults=defaults()))
    message = "other: its results are on photos, not on rendered; compare runs of one data set"
    assert message in text
    assert message in caplog.text


def test_every_run_that_is_compared_has_its_command(run, tmp_path):
    first, other, unrecorded = (shutil.copytree(run[0], tmp_path / name) for name in ("first", "other", "unrecorded"))
    record = json.loads((other / RECORD).read_text()) | {"command": "python test.py OUTPUT_DIR other"}
    (other / RECORD).write_text(json.dumps(record))
    (unrecorded / RECORD).unlink()
    _, tree = parse(write_report([first, other, unrecorded], defaults=defaults()))
    commands = [all_text(by_id(tree, name)) for name in ("command", "command-2", "command-3")]
    assert commands[:2] == [COMMAND, "python test.py OUTPUT_DIR other"]
    assert commands[2].startswith(f"python test.py --config_file {unrecorded}/config.yml TEST.WEIGHT ")
    repeat = by_id(tree, "repeat")
    assert [button.get("data-copy") for button in repeat.iter("button")] == ["command", "command-2", "command-3"]
    said = all_text(repeat)
    assert said.startswith("Repeat these runs ")
    labels = [said.index(f"/{name} ") for name in ("first", "other", "unrecorded")]
    assert labels == sorted(labels)
    assert "Repeat this run" in all_text(by_id(parse(run[0] / "report.html")[1], "repeat"))


def test_nothing_of_a_run_becomes_markup(run, tmp_path):
    directory = shutil.copytree(run[0], tmp_path / "run")
    record = json.loads((directory / RECORD).read_text())
    nasty = "</script><script>alert(1)</script>\u202e"
    record["warnings"] = {nasty: 2}
    record["sets"]["rendered"]["galleries"][0]["path"] = f"a/{nasty}"
    record["sets"]["rendered"]["families"] = {"<b>": ["fog", "rain", "pixelate"]}
    (directory / RECORD).write_text(json.dumps(record))
    text, tree = parse(write_report([directory], defaults=defaults()))
    assert len(list(tree.iter("script"))) == 1
    assert "\u202e" not in text
    assert not list(tree.iter("b"))


def test_report_off_and_a_report_that_fails_cost_no_result(tmp_path, monkeypatch, caplog):
    write_small_report(tmp_path / "off", "TEST.REPORT", "False")
    assert not [path for path in (tmp_path / "off").iterdir() if path.name.startswith("report")]

    def fail(*arguments, **options):
        raise RuntimeError("broken")

    monkeypatch.setattr("processor.report.live.write_report", fail)
    monkeypatch.setattr("processor.report.collect.count_pairs", fail)
    content = write_small_report(tmp_path / "failing")
    assert json.loads((tmp_path / "failing" / "results.json").read_text()) == content
    assert "report: not written (RuntimeError: broken)" in caplog.text
    record = json.loads((tmp_path / "failing" / RECORD).read_text())
    assert "RuntimeError: broken" in record["sets"]["rendered"]["reasons"]["distances"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"split": "validation"}, "other split"),
        ({"evaluation": {"ap": "trapezoid"}}, "other evaluation"),
        (
            {"corruption": {"names": ["fog"], "severities": [1], "backend": "fast"}},
            "other corruption types, severities",
        ),
    ],
)
def test_runs_that_were_not_tested_alike_get_no_best_mark(run, tmp_path, change, reason):
    directory, results = run
    better = {name: {**row, "mAP": {"mean": 1.0, "std": 0.0}} for name, row in results["protocols"].items()}
    for name, changes in (("alike", {}), ("unlike", change)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps({**results, "protocols": better, **changes}))
        text = write_report([directory, tmp_path / name], defaults=defaults(), out=tmp_path / "c.html").read_text()
        assert ("\N{BLACK STAR}</span>" in text) == (name == "alike")
        assert (reason in text) == (name == "unlike")


@pytest.mark.parametrize("card", [False, True])
def test_the_directory_of_the_file_is_created(run, tmp_path, card):
    def write(out):
        return write_card(run[0], out=out) if card else write_report([run[0]], defaults="", out=out)

    out = tmp_path / "a" / "b" / "page"
    assert write(out) == out
    assert out.stat().st_size > 100
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: cannot be written"):
        write(tmp_path / "file" / "page")


def matrix_of(**means):
    return Matrix(
        "", [1], {family: {family: [MatrixCell({"mAP": mean})]} for family, mean in means.items()}, {}, ("mAP",)
    )


@pytest.mark.parametrize(
    ("means", "families"),
    [
        ({"noise": 0.3, "blur": 0.2, "weather": 0.25}, ("blur",)),
        ({"noise": 0.20004, "blur": 0.3, "weather": 0.2}, ("noise", "weather")),
        ({"noise": 0.2, "blur": 0.2}, ("noise", "blur")),
    ],
)
def test_weakest_families_that_tie_are_all_named(means, families):
    found = weakest_family([matrix_of(**means)], {"protocols": {}})
    assert (found.families, found.of) == (families, len(means))
    assert found.mAP == min(means.values())


def test_a_tie_is_said(run, tmp_path):
    directory = shutil.copytree(run[0], tmp_path / "run")
    results = json.loads((directory / "results.json").read_text())
    matrix = results["matrix"]["mAP"]
    matrix |= {name: [0.5, 0.4] for name in matrix}
    (directory / "results.json").write_text(json.dumps(results))
    record = json.loads((directory / RECORD).read_text())
    (directory / RECORD).write_text(json.dumps({**record, "results": digest(results)}))
    _, tree = parse(write_report([directory], defaults=defaults()))
    said = all_text(by_id(tree, "weakest-family"))
    assert "weather and digital All families are equally weak: mAP 45.0" in said
    assert "Corrupted query: every type at every severity" in all_text(by_id(tree, "heatmap"))
    assert "orrupted_query" not in all_text(by_id(tree, "heatmap"))


def test_galleries_after_the_first_are_folded(run, tmp_path):
    directory = shutil.copytree(run[0], tmp_path / "run")
    record = json.loads((directory / RECORD).read_text())
    galleries = record["sets"]["rendered"]["galleries"]
    record["sets"]["rendered"]["galleries"] = [galleries[number % len(galleries)] for number in range(13)]
    (directory / RECORD).write_text(json.dumps(record))
    _, tree = parse(write_report([directory], defaults=defaults()))
    (folded,) = [one for one in by_id(tree, "gallery").iter("details") if one.get("class") == "more"]
    assert all_text(folded.find("summary")) == "3 more queries"
    assert len(folded.findall("article")) == 3
    assert len(list(by_id(tree, "gallery").iter("article"))) == 13


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0001_c1s1_000151_01.jpg", '0001_<wbr>c1s1_<wbr><span class="whole">000151_01.jpg</span>'),
        ("a.png", '<span class="whole">a.png</span>'),
        ("logs/run/checkpoints/align.pth", 'logs/<wbr>run/<wbr>checkpoints/<wbr><span class="whole">align.pth</span>'),
        ("SOLVER.WARMUP_FACTOR", 'SOLVER.<wbr><span class="whole">WARMUP_FACTOR</span>'),
        ("x" * 30, "x" * 30),
        ("<b>/" + "y" * 8, '&lt;b&gt;/<wbr><span class="whole">yyyyyyyy</span>'),
        ("", '<span class="whole"></span>'),
    ],
)
def test_names_break_between_their_parts(text, expected):
    assert _breaks(text) == expected
