"""Errors relative to a baseline: mCE and relative mCE against plain loops, refusals, and a test that records them."""

import dataclasses
import json

import numpy as np
import pytest

from corruption import PROTOCOLS, UNSEEN, make_corruption_set, make_matrix, make_test_policy
from processor import do_test, read_baseline
from processor.baseline import normalise
from processor.comparisons import read_results
from processor.results import join_results, make_results, make_rows
from processor.tables import format_baseline, format_table
from tests.processor.small_run import CPU, MeanColour, make_cfg, make_data
from utils.errors import UserError
from utils.metrics.evaluate import Evaluation, mean_metrics
from utils.structures import RetrievalMetrics

METRICS = {"mAP": lambda row: row["mAP"], "mINP": lambda row: row["mINP"], "rank1": lambda row: row["rank1"]}
OPTS = {
    "TEST.MATRIX": "corrupted_query",
    "CORRUPTION.TEST": "['fog', 'rain']",
    "CORRUPTION.SEVERITIES": "[1, 4]",
    "TEST.PROTOCOLS": "['clean', 'corrupted', 'unseen']",
}
TESTED = tuple(PROTOCOLS[name] for name in ("clean", "corrupted", "unseen"))


def configure(root, **changes):
    pairs = {**OPTS, **{key.replace("__", "."): value for key, value in changes.items()}}
    return make_cfg(root, *(part for pair in pairs.items() for part in pair))


def bundle(cfg):
    data, _ = make_data()
    return dataclasses.replace(data, corruptions=make_corruption_set(cfg, make_test_policy(cfg)))


def make_content(cfg, seed, *, protocols=TESTED, clean=0.9, weight="a.pth"):
    """Rows and results of a test with random metrics, lower under corruption."""
    rng = np.random.default_rng(seed)

    def single(mean):
        mean_ap, inp, rank = (mean + 0.05 * rng.random() for _ in range(3))
        return RetrievalMetrics(mean_ap, inp, np.linspace(rank, 1, 20), 8, 8)

    cells, data = make_matrix(cfg), bundle(cfg)
    tested = {
        p.name: mean_metrics([single(clean if p.is_clean else 0.4) for _ in range(1 + 2 * (not p.is_clean))])
        for p in protocols
    }
    rows = make_rows(tested, protocols, dataset="rendered", seed=seed, evaluation=Evaluation().describe())
    found = {cell.name: mean_metrics([single(0.6 - 0.1 * cell.query.severity) for _ in range(2)]) for cell in cells}
    rows += make_rows(found, cells, dataset="rendered", seed=seed, evaluation=Evaluation().describe())
    content = make_results(rows, weight=weight, corruptions=data.corruptions, evaluation=Evaluation().describe())
    return rows, content


def saved(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_ratios_against_plain_loops(tmp_path):
    cfg = configure(tmp_path, TEST__BASELINE=str(tmp_path / "base"))
    base_rows, base = make_content(cfg, 1, weight="base.pth")
    rows, content = make_content(cfg, 2)
    saved(tmp_path / "base" / "results.json", base)
    found = normalise(content, read_baseline(cfg, bundle(cfg), TESTED, make_matrix(cfg)))

    def error(rows, metric, **keep):
        values = [row[metric] for row in rows if all(row[column] == value for column, value in keep.items())]
        return 1 - sum(values) / len(values)

    for metric in METRICS:
        for protocol, corruption in (("clean", "clean"), ("corrupted", "random"), ("unseen", "unseen")):
            keep = {"protocol": protocol, "corruption": corruption}
            expected = error(rows, metric, **keep) / error(base_rows, metric, **keep)
            assert found["errors"][protocol][metric] == pytest.approx(expected)
        ces, relative = [], []
        for name in ("fog", "rain"):
            sums = [0.0, 0.0, 0.0, 0.0]
            for severity in (1, 4):
                for place, own in enumerate((rows, base_rows)):
                    cell = error(own, metric, corruption=name, severity=severity)
                    sums[place] += cell
                    sums[2 + place] += cell - error(own, metric, corruption="clean")
            ces.append(sums[0] / sums[1])
            relative.append(sums[2] / sums[3])
            assert found["CE"][metric][name] == pytest.approx(ces[-1])
            assert found["relative_CE"][metric][name] == pytest.approx(relative[-1])
        assert found["mCE"][metric] == pytest.approx(sum(ces) / 2)
        assert found["relative_mCE"][metric] == pytest.approx(sum(relative) / 2)
    described = {
        "file": str(tmp_path / "base" / "results.json"),
        "weight": "base.pth",
        "dataset": "rendered",
        "seed": 1,
    }
    assert described.items() <= found.items()
    caption, _, header, _, *lines = format_baseline({"baseline": found}).splitlines()
    assert caption.startswith(f"errors in percent of those of the baseline base.pth on rendered, seed 1 ({tmp_path}")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (header, *lines)]
    assert [row[0] for row in cells] == ["errors", "clean", "corrupted", "unseen", "mCE", "relative mCE"]
    assert cells[0][-1] == "1 - Rank-1"
    assert cells[4][2] == f"{100 * found['mCE']['mAP']:.2f}"


def test_a_result_is_as_good_as_itself(tmp_path):
    cfg = configure(tmp_path, TEST__BASELINE=str(tmp_path / "any_name.json"))
    _, content = make_content(cfg, 1)
    saved(tmp_path / "any_name.json", join_results([content, {**content, "dataset": "other"}]))
    found = normalise(content, read_baseline(cfg, bundle(cfg), TESTED, make_matrix(cfg)))
    assert found["mCE"] == found["relative_mCE"] == dict.fromkeys(METRICS, pytest.approx(1.0))
    assert found["errors"]["corrupted"] == dict.fromkeys(METRICS, pytest.approx(1.0))


def test_no_ratio_to_an_error_or_a_drop_of_zero(tmp_path, caplog):
    cfg = configure(tmp_path, TEST__BASELINE=str(tmp_path / "base"))
    _, content = make_content(cfg, 1)
    base = json.loads(json.dumps(content))
    base["protocols"]["clean"]["mAP"]["mean"] = 1.0
    base["matrix"]["rank1"]["fog"] = [1.0, 1.0]  # no error, and better than clean
    saved(tmp_path / "base" / "results.json", base)
    found = normalise(content, read_baseline(cfg, bundle(cfg), TESTED, make_matrix(cfg)))
    assert "its mAP is 1 in clean: no ratio of errors there" in caplog.text
    assert (found["errors"]["clean"]["mAP"], found["CE"]["rank1"]["fog"], found["mCE"]["rank1"]) == (None, None, None)
    assert found["relative_mCE"]["rank1"] is None
    assert found["mCE"]["mAP"] == pytest.approx(1.0)
    assert format_baseline({"baseline": found}).splitlines()[4].split("|")[3].strip() == "-"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "msmt17"}, "tested on msmt17, this test is on rendered"),
        ({"dataset_version": "V2"}, "tested on rendered V2, this test is on rendered"),
        ({"evaluation.ap": "trapezoid"}, "evaluation, ap: step, in the baseline trapezoid"),
        ({"evaluation.flip": True}, "evaluation, flip: False, in the baseline True"),
        ({"corruption.backend": "imagecorruptions"}, "CORRUPTION.BACKEND: fast, in the baseline imagecorruptions"),
        ({"corruption.severities": [1, 2]}, r"severities: \[1, 4\], in the baseline \[1, 2\]"),
        ({"corruption.names": ["fog", "snow"]}, "types: only in this test rain; only in the baseline snow"),
        ({"corruption.protocol_unseen": list(UNSEEN[1:])}, f"protocol unseen: only in this test {UNSEEN[0]}"),
        ({"corruption": None}, "corruptions: not recorded in the baseline"),
        ({"matrix.setting": "corrupted"}, "TEST.MATRIX: corrupted_query, in the baseline corrupted"),
        ({"matrix.mAP": {"fog": [0.5]}}, "the matrix lacks cells"),
        ({"matrix.mAP": 3}, "matrix.mAP: Input should be an object"),
        ({"protocols": {}}, "none is in both"),
        ({"weight": 3}, "weight: Input should be a valid string"),
    ],
)
def test_what_does_not_compare_is_refused(tmp_path, change, message):
    cfg = configure(tmp_path, TEST__BASELINE=str(tmp_path / "base"))
    _, content = make_content(cfg, 1)
    ((key, value),) = change.items()
    node = content
    *sections, name = key.split(".")
    for section in sections:
        node = node[section]
    node[name] = value
    path = saved(tmp_path / "base" / "results.json", content)
    with pytest.raises(UserError, match=message) as error:
        read_baseline(cfg, bundle(cfg), TESTED, make_matrix(cfg))
    assert str(error.value).startswith(f"TEST.BASELINE {path}: ")


def test_every_difference_is_listed_and_no_error_at_all_is_refused(tmp_path):
    cfg = configure(tmp_path, TEST__BASELINE=str(tmp_path / "base"))
    _, content = make_content(cfg, 1)
    path = saved(tmp_path / "base" / "results.json", content)
    other = configure(tmp_path, TEST__BASELINE=str(path), TEST__METRIC="cosine", CORRUPTION__SEVERITIES="[5]")
    with pytest.raises(UserError, match=r"metric: cosine, in the baseline euclidean\n  severities: \[5\]"):
        read_baseline(other, bundle(other), TESTED, make_matrix(other))
    for row in content["protocols"].values():
        row["mAP"]["mean"] = 1.0
    saved(path, content)
    with pytest.raises(UserError, match="its mAP is 1 in clean, corrupted, unseen: there is no error to divide by"):
        read_baseline(cfg, bundle(cfg), TESTED, make_matrix(cfg))


def test_no_file_and_the_file_of_this_test(tmp_path):
    for name in ("none.json", ""):
        cfg = configure(tmp_path, TEST__BASELINE=str(tmp_path / "gone" / name))
        with pytest.raises(UserError, match=f"TEST.BASELINE {tmp_path / 'gone' / name}: cannot be read"):
            read_baseline(cfg, bundle(cfg), TESTED, ())
    cfg = configure(tmp_path, TEST__BASELINE=str(tmp_path))
    with pytest.raises(UserError, match="this test writes this file; choose another OUTPUT_DIR"):
        read_baseline(cfg, bundle(cfg), TESTED, ())
    assert read_baseline(configure(tmp_path), bundle(cfg), TESTED, ()) is None


def test_what_only_one_side_has_is_said(tmp_path, caplog):
    cfg = configure(tmp_path, TEST__BASELINE=str(tmp_path / "base"))
    _, content = make_content(cfg, 1)
    partial = {key: value for key, value in content.items() if key != "matrix"}
    partial["protocols"] = {name: row for name, row in content["protocols"].items() if name != "unseen"}
    saved(tmp_path / "base" / "results.json", partial)
    found = normalise(content, read_baseline(cfg, bundle(cfg), TESTED, make_matrix(cfg)))
    assert "lacks protocol unseen: no ratio" in caplog.text
    assert "has no corruption matrix: no mCE" in caplog.text
    assert found.keys() == {"file", "weight", "dataset", "seed", "errors"}
    assert found["errors"].keys() == {"clean", "corrupted"}


class Scrambled(MeanColour):
    """One number that hardly tells identities apart."""

    def extract(self, images, camids, viewids):
        return super().extract(images, camids, viewids)[:, :1] * 7919 % 97


def test_a_test_records_and_shows_its_errors_relative_to_the_baseline(tmp_path, caplog):
    caplog.set_level("INFO")
    small = {"TEST__REPEATS": "1", "TEST__PROTOCOLS": "['clean', 'corrupted']"}
    first = configure(tmp_path / "base", **small)
    do_test(first, bundle(first), Scrambled(), TESTED[:2], device=CPU, weight="base.pth", matrix=make_matrix(first))
    second = configure(tmp_path / "run", TEST__BASELINE=str(tmp_path / "base"), **small)
    data = bundle(second).with_trained(("fog", "snow"))
    baseline = read_baseline(second, data, TESTED[:2], make_matrix(second))
    options = {"device": CPU, "weight": "a.pth", "matrix": make_matrix(second), "baseline": baseline}
    do_test(second, data, MeanColour(), TESTED[:2], **options)
    own, base = read_results(tmp_path / "run"), read_results(tmp_path / "base")
    for protocol in ("clean", "corrupted"):
        errors = [1 - content["protocols"][protocol]["mAP"]["mean"] for content in (own, base)]
        assert own["baseline"]["errors"][protocol]["mAP"] == pytest.approx(errors[0] / errors[1])
    ces = [
        sum(1 - value for value in own["matrix"]["mAP"][name]) / sum(1 - value for value in base["matrix"]["mAP"][name])
        for name in ("fog", "rain")
    ]
    assert own["baseline"]["mCE"]["mAP"] == pytest.approx(np.mean(ces))
    assert "a.pth on rendered, errors in percent of those of the baseline base.pth on rendered" in caplog.text
    assert f"{100 * np.mean(ces):.2f}" in caplog.text.rsplit("mCE", 2)[1]
    assert own["corruption"]["trained"] == ["fog", "snow"]
    assert own["seen_in_training"] == {"corrupted": {"seen": 1, "of": 2}}
    assert "seen_in_training" not in base


def test_the_table_says_which_types_were_seen_in_training(tmp_path):
    cfg = configure(tmp_path)
    _, content = make_content(cfg, 1)
    assert "types seen" not in format_table({"a": content})
    told = {**content, "seen_in_training": {"corrupted": {"seen": 2, "of": 2}, "unseen": {"seen": 0, "of": 10}}}
    some = {**content, "seen_in_training": {"corrupted": {"seen": 1, "of": 2}, "unseen": {"seen": 10, "of": 10}}}
    *_, table = format_table({"a": told, "b": some, "c": content}).split("\n\n")
    header, _, *lines = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines())
    assert header == ["model", "protocol", "types seen in training"]
    assert [line[-1] for line in lines] == [
        *("-", "all 2", "none of 10"),
        *("-", "1 of 2", "all 10"),
        *("-", "not known", "not known"),
    ]
