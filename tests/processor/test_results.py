import csv
import dataclasses
import itertools
import json

import matplotlib.image
import numpy as np
import pytest

from processor.comparisons import read_results
from processor.plots import RankedRow, save_corruption_matrix, save_ranked_lists
from processor.results import ResultFiles, make_results, make_rows
from processor.tables import format_matrix, format_table
from utils.metrics.evaluate import Evaluation, mean_metrics
from utils.seeds import derive_generator, derive_seed
from utils.structures import Condition, CorruptionSet, Protocol, RetrievalMetrics

PROTOCOLS = (Protocol("clean"), Protocol("corrupted_gallery", gallery=Condition("random")))


def make_metrics(mean_ap):
    return RetrievalMetrics(mean_ap, mean_ap / 2, np.linspace(mean_ap, 1, 20), 8, 7)


RESULTS = {
    "clean": mean_metrics([make_metrics(0.8)]),
    "corrupted_gallery": mean_metrics([make_metrics(0.4), make_metrics(0.5)]),
}


NAMES, SEVERITIES = ("shot_noise", "fog", "rain"), (1, 3)
CELLS = tuple(
    Protocol(f"corrupted_query/{name}/{severity}", query=Condition(name, severity))
    for name in NAMES
    for severity in SEVERITIES
)
EVALUATION = Evaluation().describe()
CORRUPTIONS = CorruptionSet(
    "fast", NAMES, SEVERITIES, families={"noise": ("shot_noise",), "weather": ("fog", "rain")}, seen=("fog",)
)


def matrix_rows():
    """Rows of two protocols and of a matrix with two repeats; all metrics differ."""
    cells = {
        cell.name: mean_metrics([make_metrics(0.1 + 0.05 * number + 0.02 * repeat) for repeat in range(2)])
        for number, cell in enumerate(CELLS)
    }
    tested = {"dataset": "msmt17", "dataset_version": "MSMT17_V2", "seed": 7, "evaluation": EVALUATION}
    return make_rows(RESULTS, PROTOCOLS, **tested) + make_rows(cells, CELLS, **tested)


def test_the_summary_follows_from_the_rows(tmp_path):
    content = make_results(matrix_rows(), weight="a.pth", corruptions=CORRUPTIONS, evaluation=EVALUATION)
    assert (content["dataset"], content["dataset_version"]) == ("msmt17", "MSMT17_V2")
    ResultFiles(tmp_path).write(content, matrix_rows())
    with (tmp_path / "results.csv").open() as handle:
        rows = list(csv.DictReader(handle))

    def mean(metric, protocol, keep=lambda row: True):
        return np.mean([float(row[metric]) for row in rows if row["protocol"] == protocol and keep(row)])

    summary = json.loads((tmp_path / "results.json").read_text())["summary"]
    for metric in ("mAP", "mINP", "rank1"):
        clean = mean(metric, "clean")
        assert summary["clean"][metric] == pytest.approx(clean)
        for part, protocol in (("corrupted_gallery", "corrupted_gallery"), ("matrix", "corrupted_query")):
            corrupted = mean(metric, protocol)
            assert summary[part]["mean_corrupted"][metric] == pytest.approx(corrupted)
            assert summary[part]["drop"][metric] == pytest.approx(clean - corrupted)
            assert summary[part]["relative"][metric] == pytest.approx(corrupted / clean)
            assert summary[part]["relative_drop"][metric] == pytest.approx(1 - corrupted / clean)
        groups = {
            ("family", "noise"): lambda row: row["corruption"] == "shot_noise",
            ("family", "weather"): lambda row: row["corruption"] in ("fog", "rain"),
            ("severity", "1"): lambda row: row["severity"] == "1",
            ("severity", "3"): lambda row: row["severity"] == "3",
        }
        for (kind, name), keep in groups.items():
            assert summary["matrix"][kind][name][metric] == pytest.approx(mean(metric, "corrupted_query", keep))
        seen = mean(metric, "corrupted_query", lambda row: row["corruption"] == "fog")
        unseen = mean(metric, "corrupted_query", lambda row: row["corruption"] != "fog")
        assert summary["matrix"]["seen"][metric] == pytest.approx(seen)
        assert summary["matrix"]["unseen"][metric] == pytest.approx(unseen)
        for name in NAMES:
            for severity, value in zip(SEVERITIES, content["matrix"][metric][name], strict=True):
                cell = (name, str(severity))
                keep = lambda row, cell=cell: (row["corruption"], row["severity"]) == cell  # noqa: E731
                assert value == pytest.approx(mean(metric, "corrupted_query", keep))
    assert content["matrix"]["setting"] == "corrupted_query"
    assert (content["matrix"]["repeats"], content["matrix"]["severities"]) == (2, [1, 3])
    assert set(content["protocols"]) == {"clean", "corrupted_gallery"}
    assert content["corruption"] == {"backend": "fast", "names": list(NAMES), "severities": [1, 3], "seen": ["fog"]}


def test_unknown_keys_of_the_configuration_are_named_where_there_are_any():
    with_keys = make_results(
        matrix_rows(), weight="a.pth", corruptions=CORRUPTIONS, evaluation=EVALUATION, unknown_keys=["MODEL.NEW"]
    )
    without = make_results(matrix_rows(), weight="a.pth", corruptions=CORRUPTIONS, evaluation=EVALUATION)
    assert with_keys == without | {"unknown_keys": ["MODEL.NEW"]}


def test_protocol_unseen():
    """Its rows are sampled ones, no cells of a matrix; results name what they sample from."""
    protocols = (Protocol("clean"), Protocol("unseen", Condition("unseen"), Condition("unseen")))
    single = [RetrievalMetrics(value, value / 2, np.full(10, value), 4, 4) for value in (0.4, 0.6)]
    metrics = {"clean": mean_metrics([dataclasses.replace(single[0], mAP=0.8)]), "unseen": mean_metrics(single)}
    rows = make_rows(metrics, protocols, dataset="d", seed=1, evaluation=EVALUATION)
    assert [(row["protocol"], row["corruption"], row["severity"]) for row in rows[1:]] == [
        ("unseen", "unseen", "random")
    ] * 2
    corruptions = dataclasses.replace(CORRUPTIONS, protocol_unseen=("sparkles", "plasma_noise"))
    content = make_results(rows, weight="a.pth", corruptions=corruptions, evaluation=EVALUATION)
    assert content["protocols"]["unseen"]["mAP"]["mean"] == pytest.approx(0.5)
    assert content["protocols"]["unseen"]["repeats"] == 2
    assert content["corruption"]["protocol_unseen"] == ["sparkles", "plasma_noise"]
    assert content["summary"]["unseen"]["drop"]["mAP"] == pytest.approx(0.3)
    assert "matrix" not in content


def test_a_summary_without_clean_has_no_drop():
    rows = [row for row in matrix_rows() if row["protocol"] == "corrupted_gallery"]
    summary = make_results(rows, weight="a.pth", corruptions=CORRUPTIONS, evaluation=EVALUATION)["summary"]
    assert list(summary) == ["corrupted_gallery"]
    assert list(summary["corrupted_gallery"]) == ["mean_corrupted"]


def test_nothing_is_relative_to_zero():
    rows = matrix_rows()
    rows[0]["rank1"] = 0.0
    content = make_results(rows, weight="a.pth", corruptions=CORRUPTIONS, evaluation=EVALUATION)
    matrix = content["summary"]["matrix"]
    assert (matrix["relative"]["rank1"], matrix["relative_drop"]["rank1"]) == (None, None)
    assert matrix["drop"]["rank1"] == -matrix["mean_corrupted"]["rank1"]
    (line,) = (line for line in format_matrix(content, CORRUPTIONS.families).splitlines() if "relative to" in line)
    assert line.split()[-2] == "-"


def test_the_longest_names_fit_80_columns():
    content = make_results(matrix_rows(), weight="a.pth", corruptions=CORRUPTIONS, evaluation=EVALUATION)
    content["matrix"]["severities"] = [1, 2, 3, 4, 5]
    long, unit = "single_frequency_greyscale", {"mAP": 0.9999}
    content["matrix"]["mAP"] = {name: [0.9999] * 5 for name in (*NAMES, long)}
    content["summary"]["matrix"]["severity"] = dict.fromkeys(range(1, 6), unit)
    lines = format_matrix(content, {**CORRUPTIONS.families, "surveillance": (long,)}).splitlines()
    table = lines[: lines.index("")]
    assert f"| {long} | 99.99 | 99.99 | 99.99 | 99.99 | 99.99 | 99.99 |" in table
    assert {len(line) for line in table} == {78}  # the log indents by two


def test_seen_and_unseen_need_both():
    corruptions = dataclasses.replace(CORRUPTIONS, seen=NAMES)
    matrix = make_results(matrix_rows(), weight="a.pth", corruptions=corruptions, evaluation=EVALUATION)["summary"][
        "matrix"
    ]
    assert not {"seen", "unseen"} & matrix.keys()


def test_the_matrix_as_table_and_figure(tmp_path):
    content = make_results(matrix_rows(), weight="a.pth", corruptions=CORRUPTIONS, evaluation=EVALUATION)
    lines = format_matrix(content, CORRUPTIONS.families).splitlines()
    assert lines[1] == "|:------------|------:|------:|------:|"
    assert lines[2] == "| **noise**   | 11.00 | 16.00 | 13.50 |"
    assert lines[3] == "| shot_noise  | 11.00 | 16.00 | 13.50 |"
    assert lines[4] == "| **weather** | 26.00 | 31.00 | 28.50 |"
    assert lines[5] == "| fog         | 21.00 | 26.00 | 23.50 |"
    assert lines[6] == "| rain        | 31.00 | 36.00 | 33.50 |"
    assert lines[7] == "| **mean**    | 21.00 | 26.00 | 23.50 |"
    assert "| clean             | 40.00 | 80.00 |  80.00 |" in lines
    assert "| unseen            | 11.75 | 23.50 |  23.50 |" in lines
    path = tmp_path / "m.png"
    save_corruption_matrix(path, content["matrix"]["mAP"], [1, 3], CORRUPTIONS.families, clean=0.8, title="t")
    figure = matplotlib.image.imread(path)  # (H, W, 4)
    assert min(figure.shape[:2]) > 200
    assert len(np.unique(figure.reshape(-1, figure.shape[2]), axis=0)) > 20


def test_files_of_one_test_replace_each_other_and_back_up_those_of_earlier_tests(tmp_path):
    def write(files, *maps):
        rows = [{**row, "mAP": value} for row, value in zip(matrix_rows(), maps, strict=False)]
        files.write(make_results(rows, weight="a.pth", corruptions=CORRUPTIONS, evaluation=EVALUATION), rows)
        return rows

    write(ResultFiles(tmp_path), 0.1)
    earlier = (tmp_path / "results.csv").read_bytes()
    files = ResultFiles(tmp_path)
    write(files, 0.2)
    write(files, 0.2, 0.3)
    assert {path.name for path in tmp_path.iterdir()} == {
        "results.json",
        "results.csv",
        "results.1.json",
        "results.1.csv",
    }
    assert (tmp_path / "results.1.csv").read_bytes() == earlier
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 3
    again = ResultFiles(tmp_path)  # the same test once more: nothing new to back up
    write(again, 0.2)
    write(again, 0.2, 0.3)
    assert {path.name for path in tmp_path.iterdir()} == {
        "results.json",
        "results.csv",
        "results.1.json",
        "results.1.csv",
    }


def test_files_that_another_test_wrote_meanwhile_are_backed_up(tmp_path):
    files = ResultFiles(tmp_path)
    files.write({"text": "protocols"}, [])
    ResultFiles(tmp_path).write({"text": "other"}, [])
    files.write({"text": "whole"}, [])
    texts = {path.name: json.loads(path.read_text())["text"] for path in tmp_path.glob("*.json")}
    assert texts == {"results.json": "whole", "results.1.json": "protocols", "results.2.json": "other"}


def test_files_and_table(tmp_path):
    rows = make_rows(RESULTS, PROTOCOLS, dataset="synthetic", seed=7, evaluation=EVALUATION)
    content = make_results(rows, weight="a.pth", corruptions=CORRUPTIONS, evaluation=EVALUATION)
    ResultFiles(tmp_path).write(content, rows)
    assert read_results(tmp_path) == content == json.loads((tmp_path / "results.json").read_text())
    corrupted = content["protocols"]["corrupted_gallery"]
    assert corrupted["repeats"] == 2
    assert corrupted["mAP"]["mean"] == pytest.approx(0.45)
    assert corrupted["mAP"]["std"] == pytest.approx(0.1 / 2**0.5)
    assert content["protocols"]["clean"]["rank1"] == {"mean": 0.8, "std": 0.0}
    with (tmp_path / "results.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["protocol"], row["corruption"], row["severity"], row["repeat"]) for row in rows] == [
        ("clean", "clean", "", "0"),
        ("corrupted_gallery", "random", "random", "0"),
        ("corrupted_gallery", "random", "random", "1"),
    ]
    assert [float(row["mAP"]) for row in rows] == [0.8, 0.4, 0.5]
    assert format_table({"logs/a": content}).splitlines() == [
        "| protocol          |         mINP |          mAP |       Rank-1 | repeats |",
        "|:------------------|-------------:|-------------:|-------------:|--------:|",
        "| clean             |        40.00 |        80.00 |        80.00 |       1 |",
        "| corrupted_gallery | 22.50 ± 3.54 | 45.00 ± 7.07 | 45.00 ± 7.07 |       2 |",
    ]
    twice = format_table({"logs/a": content, "logs/b": content}).splitlines()
    assert twice[:2] == ["model 1: a.pth in logs/a", "model 2: a.pth in logs/b"]
    assert [line.split()[1:4] for line in twice[5:9]] == [
        ["1", "|", "clean"],
        ["1", "|", "corrupted_gallery"],
        ["2", "|", "clean"],
        ["2", "|", "corrupted_gallery"],
    ]


def test_ranked_list_marks_correct_and_wrong_matches(tmp_path):
    grey = np.full((128, 64, 3), 128, np.uint8)
    save_ranked_lists(tmp_path / "r.png", [RankedRow("pid 1", grey, [grey, grey], [True, False])], title="t")
    figure = (matplotlib.image.imread(tmp_path / "r.png")[..., :3] * 255).round().astype(int)

    def count(colour):
        return int((np.abs(figure - np.array(colour)).max(axis=2) < 3).sum())

    assert count((0x1A, 0x96, 0x41)) > 100
    assert count((0xD7, 0x19, 0x1C)) > 100


def test_a_ranked_list_shows_whole_images_upright_in_their_order(tmp_path):
    tones = [(200, 0, 200), (0, 200, 200), (200, 200, 0)]
    images = [np.full((128, 64, 3), tone, np.uint8) for tone in tones]
    for image in images:
        image[:64] //= 2  # the upper half is darker
    save_ranked_lists(tmp_path / "r.png", [RankedRow("pid 1", images[0], images[1:], [True, False])], title="t")
    figure = (matplotlib.image.imread(tmp_path / "r.png")[..., :3] * 255).round().astype(int)
    boxes = []
    for tone in tones:
        light, dark = (np.argwhere(np.abs(figure - np.array(t)).max(axis=2) < 3) for t in (tone, np.array(tone) // 2))
        assert dark[:, 0].max() <= light[:, 0].min()
        assert len(dark) == pytest.approx(len(light), rel=0.05)
        both = np.concatenate([dark, light])
        boxes.append((both[:, 1].min(), both[:, 1].max()))
        height, width = np.ptp(both, axis=0) + 1
        assert height / width == pytest.approx(2, rel=0.08)  # frames cover the edges of gallery images
    assert boxes == sorted(boxes)
    assert all(left[1] < right[0] for left, right in itertools.pairwise(boxes))


def test_derived_seeds_are_fixed_and_apart():
    assert derive_seed(1, "query", "query/a.jpg", 0) == 2222356927167259334  # on every machine
    values = {derive_seed(1, "a", "b"), derive_seed(1, "ab"), derive_seed(1, "a", "b", 0), derive_seed(2, "a", "b")}
    assert len(values) == 4
    first, again = (derive_generator(5, "x").random(4) for _ in range(2))
    assert (first == again).all()
