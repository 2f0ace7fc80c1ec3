"""attention.png of a whole test, and the maps in it."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

import processor.attention
from config import load_cfg
from corruption import PROTOCOLS
from datasets import make_dataloader
from datasets.synthetic.generate import SyntheticSettings, synthesize
from model import make_model
from processor import do_test
from processor.attention import attention_maps, correlation
from processor.test import spread_queries
from utils.structures import Condition

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    synthesize(root / "market1501", SyntheticSettings(num_identities=6, num_cameras=2, images_per_camera=2), workers=1)
    return root


def make(data_root, output, *opts):
    cfg = load_cfg(
        opts=[
            "DATASETS.ROOT_DIR",
            str(data_root),
            "DATASETS.CHECK_COUNTS",
            "False",
            "OUTPUT_DIR",
            str(output),
            "INPUT.SIZE_TRAIN",
            "[64, 32]",
            "INPUT.SIZE_TEST",
            "[64, 32]",
            "DATALOADER.NUM_WORKERS",
            "0",
            "MODEL.TRANSFORMER_TYPE",
            "vit_tiny_patch16_128_TransReID",
            "MODEL.PRETRAIN_PATH",
            "",
            "CFAT.STAGE",
            "clean",
            "TEST.REPEATS",
            "1",
            *opts,
        ]
    )
    data = make_dataloader(cfg, with_train=False)
    torch.manual_seed(0)
    return cfg, data, make_model(cfg, num_classes=0, num_cameras=data.num_cameras, num_views=data.num_views)


@pytest.mark.parametrize("wanted", [2, 50])
def test_a_test_writes_the_figure_and_the_mean_correlation(data_root, tmp_path, caplog, monkeypatch, wanted):
    caplog.set_level("INFO")
    plotted = []
    save = processor.attention.save_attention
    monkeypatch.setattr(
        processor.attention, "save_attention", lambda path, rows, **k: plotted.extend(rows) or save(path, rows, **k)
    )
    cfg, data, model = make(data_root, tmp_path, "TEST.ATTENTION_QUERIES", str(wanted))
    attend, modes = model.attend, []
    monkeypatch.setattr(model, "attend", lambda *inputs: modes.append(model.training) or attend(*inputs))
    model.train()
    do_test(cfg, data, model, (PROTOCOLS["clean"],), device=CPU, weight="a.pth")
    assert model.training
    assert modes == [False] * len(plotted)
    count = len(data.splits.query)
    assert [row.title for row in plotted] == [
        f"pid {data.splits.query[index].pid}, {data.splits.query[index].path.rsplit('/', 1)[1]}"
        for index in ((0, count - 1) if wanted == 2 else range(count))
    ]
    for row in plotted:
        assert [image.shape for image in row.images] == [(128, 64, 3)] * 2  # at their own size
        assert not np.array_equal(*row.images)
    correlations = [np.corrcoef(*(attention.ravel() for attention in row.maps))[0, 1] for row in plotted]
    for row, expected in zip(plotted, correlations, strict=True):
        assert float(row.caption.split(": ")[1]) == pytest.approx(expected, abs=0.006)
    found = re.search(r"attention.png; .* (\d+) queries, mean correlation (-?[\d.]+)", caplog.text)
    assert int(found[1]) == len(plotted)
    assert float(found[2]) == pytest.approx(np.mean(correlations), abs=0.006)
    with Image.open(tmp_path / "attention.png") as figure:
        assert 500 < figure.width < 3000
        assert 300 < figure.height < 3000


def test_maps_are_of_the_tested_images(data_root, tmp_path):
    _, data, model = make(data_root, tmp_path)
    model.eval()
    index = len(data.splits.query) - 1
    maps = attention_maps(model, data, index, device=CPU)
    assert maps.shape == (2, 4, 2)
    for found, condition in zip(maps, (Condition(), Condition("random")), strict=True):
        batches = list(data.test_loader("query", condition, 0))
        images, camids = (torch.cat([batch[key] for batch in batches]) for key in ("images", "camids"))
        expected = model.attend(images[index:] / 255, camids[index:])[0]
        torch.testing.assert_close(found, expected * 8)
    assert not torch.equal(*maps)


def test_correlation():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 4, 2))
    expected = np.corrcoef(first.ravel(), second.ravel())[0, 1]
    assert correlation(torch.tensor(first), torch.tensor(second)) == pytest.approx(expected)
    assert correlation(torch.tensor(first), torch.tensor(3 - 2 * first)) == pytest.approx(-1)
    assert correlation(torch.tensor(first), torch.ones(4, 2)) == 0  # a constant map


def test_queries_are_spread_evenly():
    assert spread_queries(6, 1) == [0]
    assert spread_queries(6, 3) == [0, 2, 5]
    assert spread_queries(6, 50) == [0, 1, 2, 3, 4, 5]
