"""Features of any images and their ranking, recomputed by definition."""

import csv
import os
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import processor.plots
import processor.search
from config import load_cfg
from datasets import make_image_loader
from processor import do_search
from utils.errors import UserError

CPU = torch.device("cpu")


class MeanColours(nn.Module):
    """Mean colours of the image's quarters, 12 numbers; a broken model gives NaN for a black image."""

    test_feature, flip, feat_norm = "class_token", False, False

    def __init__(self, *, broken=False):
        super().__init__()
        self.broken = broken

    def extract(self, images, camids, viewids):
        feature = nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)
        return feature / feature.amax(dim=1, keepdim=True) if self.broken else feature


def save_image(path, seed, size=(16, 32)):
    """Writes an image of four quarters, each in a seeded colour."""
    quarters = np.random.default_rng(seed).integers(20, 236, (2, 2, 3)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(quarters).resize(size, Image.Resampling.NEAREST).save(path)
    return path


@pytest.fixture
def directory(tmp_path):
    for number in range(12):
        save_image(tmp_path / "images" / f"{number % 3}" / f"{number}.png", number)
    return tmp_path / "images"


def search(directory, output, *opts, query=None, model=None):
    cfg = load_cfg(
        opts=[
            "INPUT.SIZE_TRAIN",
            "[32, 16]",
            "INPUT.SIZE_TEST",
            "[32, 16]",
            "DATALOADER.NUM_WORKERS",
            "0",
            "TEST.IMS_PER_BATCH",
            "2",
            "TEST.WEIGHT",
            "some.pth",
            "OUTPUT_DIR",
            str(output),
            *opts,
        ]
    )
    images = make_image_loader(cfg, str(directory), queries=() if query is None else [str(query)])
    do_search(cfg, images, model or MeanColours(), device=CPU)


def feature_of(path):
    """Mean colours of an image's quarters in float64; the images have the model's input size."""
    with Image.open(path) as file:
        image = np.asarray(file.convert("RGB")).transpose(2, 0, 1) / 255
    return image.reshape(3, 2, 16, 2, 8).mean(axis=(2, 4)).flatten()


def read_ranking(output):
    with (output / "ranked.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize("chunk", [1, 2, 64])
def test_the_file_holds_what_numpy_would_have_written(directory, tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(processor.search, "CHUNK", chunk)
    search(directory, tmp_path / "out")
    with np.load(tmp_path / "out" / "features.npz", allow_pickle=False) as arrays:
        found = dict(arrays)
    paths = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*.png"))
    assert found["paths"].tolist() == paths
    assert paths[:3] == ["0/0.png", "0/3.png", "0/6.png"]
    assert found["features"].dtype == np.float32
    expected = np.stack([feature_of(directory / path) for path in paths])
    np.testing.assert_allclose(found["features"], expected, rtol=1e-5)
    rest = {name: value.tolist() for name, value in found.items() if name not in ("features", "paths")}
    assert rest == {
        "root": str(directory),
        "weight": "some.pth",
        "weights_sha256": "",  # there is no such file
        "feature": "class_token",
        "flip": False,
        "feat_norm": False,
        "size": [32, 16],
    }
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"features.npz"}


def test_features_in_half_precision(directory, tmp_path):
    search(directory, tmp_path / "half", "TEST.FEATURE_DTYPE", "float16", query=directory / "0" / "0.png")
    search(directory, tmp_path / "full", query=directory / "0" / "0.png")
    half, full = (dict(np.load(tmp_path / name / "features.npz")) for name in ("half", "full"))
    assert (half["features"].dtype, full["features"].dtype) == (np.float16, np.float32)
    assert (half["features"] == full["features"].astype(np.float16)).all()
    assert read_ranking(tmp_path / "half") == read_ranking(tmp_path / "full")  # ranked in float32

    class Large(MeanColours):
        def extract(self, images, camids, viewids):
            return super().extract(images, camids, viewids) * 1e6

    with pytest.raises(UserError, match="TEST.FEATURE_DTYPE float16: features have values up to .* at most 65504"):
        search(directory, tmp_path / "half", "TEST.FEATURE_DTYPE", "float16", model=Large())
    assert {path.name for path in (tmp_path / "half").iterdir()} == {"features.npz", "ranked.csv", "ranked.png"}


def test_features_do_not_stay_in_memory(directory, tmp_path, monkeypatch):
    monkeypatch.setattr(processor.search, "CHUNK", 1)
    extract, alive, most = processor.search.extract_features, weakref.WeakSet(), []

    def watched(*args, **options):
        found = extract(*args, **options)
        alive.add(found.features)
        most.append(len(alive))
        return found

    monkeypatch.setattr(processor.search, "extract_features", watched)
    search(directory, tmp_path / "out", query=directory / "0" / "0.png")
    assert len(most) == 7  # the query, and six batches of two
    assert max(most) <= 4  # the query, the first chunk, the one being written and the next one


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_ranking_is_that_of_the_definition(directory, tmp_path, metric, caplog):
    caplog.set_level("INFO")
    query = save_image(tmp_path / "who.png", 100)
    search(directory, tmp_path / "out", "TEST.METRIC", metric, query=query)
    wanted = feature_of(query)
    distances = {}
    for path in sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*.png")):
        feature = feature_of(directory / path)
        cosine = wanted @ feature / np.linalg.norm(wanted) / np.linalg.norm(feature)
        distances[path] = np.linalg.norm(wanted - feature) if metric == "euclidean" else 1 - cosine
    rows = read_ranking(tmp_path / "out")
    assert [row["path"] for row in rows] == sorted(distances, key=distances.get)
    assert [int(row["rank"]) for row in rows] == list(range(1, 13))
    np.testing.assert_allclose(
        [float(row["distance"]) for row in rows], [distances[row["path"]] for row in rows], rtol=1e-5
    )
    cells = ([cell.strip() for cell in line.split("|")[1:-1]] for line in caplog.text.splitlines())
    shown = [row for row in cells if len(row) == 3 and row[0].isdigit()]
    assert [line[2] for line in shown] == [row["path"] for row in rows[:10]]
    assert float(shown[0][1]) == pytest.approx(float(rows[0]["distance"]), abs=1e-4)
    assert f"top-10 of 12 images, {metric} distance" in caplog.text


def test_equal_distances_rank_in_the_order_of_paths(directory, tmp_path):
    for name in ("2/c.png", "0/b.png", "a.png"):
        save_image(directory / name, 100)
    query = save_image(tmp_path / "who.png", 100)
    search(directory, tmp_path / "out", query=query)
    assert [(row["path"], float(row["distance"])) for row in read_ranking(tmp_path / "out")[:3]] == [
        ("0/b.png", 0),
        ("2/c.png", 0),
        ("a.png", 0),
    ]


def test_the_query_itself_is_not_ranked_but_its_copy_is(directory, tmp_path):
    query = directory / "0" / "0.png"
    (directory / "link.png").symlink_to(query)
    save_image(directory / "copy.png", 0)
    search(directory, tmp_path / "out", query=tmp_path / "images" / "1" / ".." / "0" / "0.png")
    rows = read_ranking(tmp_path / "out")
    assert len(rows) == 12
    assert rows[0] == {"rank": "1", "path": "copy.png", "distance": "0"}
    assert not {"0/0.png", "link.png"} & {row["path"] for row in rows}
    with np.load(tmp_path / "out" / "features.npz") as arrays:
        assert len(arrays["features"]) == len(arrays["paths"]) == 14


def test_nothing_to_rank(tmp_path):
    query = save_image(tmp_path / "images" / "a.png", 0)
    with pytest.raises(UserError, match="no image below it but the query itself"):
        search(query.parent, tmp_path / "out", query=query)
    assert not list((tmp_path / "out").iterdir())


def test_a_feature_that_is_not_finite_names_its_image_and_costs_no_earlier_file(directory, tmp_path, monkeypatch):
    monkeypatch.setattr(processor.search, "CHUNK", 1)
    search(directory, tmp_path / "out")
    before = (tmp_path / "out" / "features.npz").read_bytes()
    black = directory / "2" / "5.png"
    Image.new("RGB", (16, 32)).save(black)
    with pytest.raises(UserError, match=f"image {black}: its feature is not finite"):
        search(directory, tmp_path / "out", model=MeanColours(broken=True))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"features.npz"}
    assert (tmp_path / "out" / "features.npz").read_bytes() == before


def test_the_same_features_are_written_once_and_others_beside_them(directory, tmp_path):
    for query in (None, directory / "0" / "0.png", directory / "0" / "3.png"):
        search(directory, tmp_path / "out", query=query)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"features.npz", "ranked.csv", "ranked.1.csv", "ranked.png", "ranked.1.png"}
    save_image(directory / "new.png", 50)
    search(directory, tmp_path / "out")
    with np.load(tmp_path / "out" / "features.npz") as new, np.load(tmp_path / "out" / "features.1.npz") as old:
        assert len(new["features"]) == len(old["features"]) + 1 == 13


def test_names_of_any_bytes(tmp_path, caplog):
    caplog.set_level("INFO")
    names = [b"caf\xe9.png", "größe 大.png".encode(), b"two\nlines, and $a comma$.png", b"$x_$.png"]
    (tmp_path / "images").mkdir()
    for number, name in enumerate(names):
        save_image(tmp_path / "drawn.png", number).rename(tmp_path / "images" / os.fsdecode(name))
    for number, name in enumerate(names):
        output = tmp_path / f"out{number}"
        search(tmp_path / "images", output, query=tmp_path / "images" / os.fsdecode(name))
        with np.load(output / "features.npz", allow_pickle=False) as arrays:
            assert [os.fsencode(path) for path in arrays["paths"].tolist()] == sorted(names)
        found = {os.fsencode(row["path"]) for row in read_ranking(output)}
        assert found == set(names) - {name}
        assert (output / "ranked.png").exists()
    assert r"caf\udce9.png" in caplog.text
    assert "größe 大.png" in caplog.text
    assert r"two\nlines, and $a comma$.png" in caplog.text


def test_ranked_png_shows_the_top_10_in_grey_frames_with_their_distances(directory, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(processor.plots.plt, "close", figures.append)
    query = save_image(tmp_path / "who.png", 100, size=(640, 1280))
    search(directory, tmp_path / "out", query=query)
    monkeypatch.undo()
    processor.plots.plt.close(figures[0])
    rows = read_ranking(tmp_path / "out")
    (axis,) = figures[0].axes
    shown_query, *shown = axis.images
    assert shown_query.get_array().shape == (512, 256, 3)  # scaled down
    _, query_text, *texts = [text.get_text() for text in axis.texts]  # after the title of the row
    assert query_text == "query"
    assert texts == [f"{rank}\n{float(row['distance']):.3f}" for rank, row in enumerate(rows[:10], start=1)]
    for image, row in zip(shown, rows, strict=False):
        np.testing.assert_array_equal(image.get_array(), np.asarray(Image.open(directory / row["path"])))
    assert len(axis.patches) == len(shown) == 10
    assert {patch.get_edgecolor() for patch in axis.patches} == {(96 / 255, 96 / 255, 96 / 255, 1.0)}
    assert figures[0].get_suptitle() == "who.png\ntop-10 of 12 images, euclidean distance"
