import numpy as np
import pytest

from processor.per_query import FILE, read_average_precision, write_per_query
from utils.errors import UserError
from utils.structures import ImageRecord, RetrievalMetrics

QUERIES = [ImageRecord(f"data/{number}.jpg", number // 2, number % 2) for number in range(4)]


def make_metrics(*tables):
    """Metrics of repeats whose rows are (average precision, inverse negative penalty, rank of the first match)."""
    repeats = tuple(RetrievalMetrics(0.5, 0.5, np.ones(1), 4, 4, per_query=np.array(table)) for table in tables)
    return RetrievalMetrics(0.5, 0.5, np.ones(1), 4, 4, repeats=repeats)


def test_values_come_back_by_query(tmp_path):
    rows = [[1.0, 1.0, 1], [0.5, 0.4, 2], [0.0, 0.0, 0], [0.25, 0.2, 4]]
    other = [[0.5, 0.5, 2], [0.5, 0.4, 2], [0.0, 0.0, 0], [0.75, 0.2, 1]]
    write_per_query(tmp_path / FILE, {"clean": make_metrics(rows), "corrupted": make_metrics(rows, other)}, QUERIES)
    with np.load(tmp_path / FILE) as arrays:
        assert arrays["paths"].tolist() == [record.path for record in QUERIES]
        assert arrays["pids"].tolist() == [0, 0, 1, 1]
        assert arrays["corrupted/first"].tolist() == [[1, 2, 0, 4], [2, 2, 0, 1]]
        assert arrays["clean/inp"][0, 1] == pytest.approx(0.4)
    found = read_average_precision(tmp_path).by_protocol
    np.testing.assert_allclose(found["clean"], [1, 0.5, np.nan, 0.25])
    np.testing.assert_allclose(found["corrupted"], [0.75, 0.5, np.nan, 0.5])


def test_a_sampled_gallery_leaves_its_images_out(tmp_path):
    galleries = np.array([[True, False, True, False], [False, True, True, False]])
    metrics = make_metrics([[1.0, 1, 1], [0.5, 1, 2]], [[0.2, 1, 3], [0.3, 1, 4]])
    write_per_query(tmp_path / FILE, {"clean": metrics}, QUERIES, lambda repeat: galleries[repeat])
    found = read_average_precision(tmp_path).by_protocol["clean"]
    assert np.isnan(found[2])
    assert np.nanmean(found) == pytest.approx(((1.0 + 0.5) / 2 + (0.2 + 0.3) / 2) / 2)  # of the mAPs of the repeats


def test_a_damaged_or_missing_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match="per_query.npz: cannot be read"):
        read_average_precision(tmp_path)
    (tmp_path / FILE).write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(UserError, match="per_query.npz: cannot be read"):
        read_average_precision(tmp_path)
