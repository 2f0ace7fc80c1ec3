import csv
import json

import matplotlib.image
import numpy as np
import pytest

from utils.errors import UserError
from utils.metrics import mean_metrics
from utils.plots import RankedRow, save_ranked_lists
from utils.results import format_table, make_results, read_results, write_results
from utils.seeds import derive_generator, derive_seed
from utils.structures import Condition, Protocol, RetrievalMetrics

PROTOCOLS = (Protocol("clean"), Protocol("corrupted_gallery", gallery=Condition("random")))


def make_metrics(mean_ap):
    return RetrievalMetrics(mean_ap, mean_ap / 2, np.linspace(mean_ap, 1, 20), 8, 7)


RESULTS = {
    "clean": mean_metrics([make_metrics(0.8)]),
    "corrupted_gallery": mean_metrics([make_metrics(0.4), make_metrics(0.5)]),
}


def test_files_and_table(tmp_path):
    content = make_results(RESULTS, dataset="synthetic", weight="a.pth", seed=7)
    write_results(tmp_path, content, RESULTS, PROTOCOLS)
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
    table = format_table([content]).splitlines()
    assert table[2].split() == ["a.pth", "clean", "40.00", "±", "0.00", "80.00", "±", "0.00", "80.00", "±", "0.00", "1"]
    assert len(table) == 4


def test_damaged_results(tmp_path):
    with pytest.raises(UserError, match=r"results\.json: cannot be read"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(UserError, match="holds no 'weight'"):
        read_results(tmp_path)


def test_ranked_list_marks_right_and_wrong(tmp_path):
    grey = np.full((128, 64, 3), 128, np.uint8)
    save_ranked_lists(tmp_path / "r.png", [RankedRow("pid 1", grey, [grey, grey], [True, False])], title="t")
    picture = (matplotlib.image.imread(tmp_path / "r.png")[..., :3] * 255).round().astype(int)

    def count(colour):
        return int((np.abs(picture - np.array(colour)).max(axis=2) < 3).sum())

    assert count((0x1A, 0x96, 0x41)) > 100
    assert count((0xD7, 0x19, 0x1C)) > 100


def test_derived_seeds_are_fixed_and_apart():
    assert derive_seed(1, "query", "query/a.jpg", 0) == 2222356927167259334  # on every machine
    values = {derive_seed(1, "a", "b"), derive_seed(1, "ab"), derive_seed(1, "a", "b", 0), derive_seed(2, "a", "b")}
    assert len(values) == 4
    first, again = (derive_generator(5, "x").random(4) for _ in range(2))
    assert (first == again).all()
