"""curves.png: what is in it, when it is drawn again, and that drawing it costs little."""

import json
import time

import matplotlib.image
import numpy as np

import processor.curves
import processor.plots
from processor.curves import FILE, Curves


def make_stage(epochs, *terms, evaluated=()):
    rows = [
        {"epoch": n, "lr": 1e-3 / n, "loss": 5 / n, **{f"{term}_loss": 3 / n for term in terms}, "grad_norm": None}
        for n in range(1, epochs + 1)
    ]
    return {"epochs": rows, "evaluations": [{"epoch": n, "clean": 0.5, "corrupted": 0.1} for n in evaluated]}


def drawn(history, tmp_path, monkeypatch):
    """The figure that save_curves writes."""
    figures = []
    save = processor.plots._save
    monkeypatch.setattr(
        processor.plots, "_save", lambda path, figure, **o: (figures.append(figure), save(path, figure, **o))
    )
    processor.plots.save_curves(tmp_path / FILE, history)
    return figures[0]


def test_every_stage_has_its_panels(tmp_path, monkeypatch):
    history = {"clean": make_stage(4, "id", "triplet", evaluated=(2, 4)), "bridge": make_stage(1, "bridge_kl")}
    axes = drawn(history, tmp_path, monkeypatch).axes
    titles = ("loss terms", "learning rate", "gradient norm", "percent")
    assert [axis.get_title() for axis in axes] == [f"{stage}: {title}" for stage in history for title in titles]
    assert [line.get_label() for line in axes[0].lines] == ["loss", "id", "triplet"]
    assert np.allclose(axes[0].lines[1].get_xydata(), [[1, 3], [2, 1.5], [3, 1], [4, 0.75]])
    assert np.allclose(axes[1].lines[0].get_ydata(), [1e-3, 5e-4, 1e-3 / 3, 2.5e-4])
    assert [line.get_label() for line in axes[3].lines] == ["mAP clean", "mAP corrupted"]
    assert np.allclose(axes[3].lines[1].get_xydata(), [[2, 10], [4, 10]])
    assert [axis.get_visible() for axis in axes] == [True, True, False, True, True, True, False, False]
    image = matplotlib.image.imread(tmp_path / FILE)
    assert image.shape[:2] == (520, 1400)
    assert image[..., :3].std() > 0.02


def test_short_epochs_share_a_drawing_and_the_end_is_always_drawn(tmp_path, monkeypatch):
    now, drawings = [100.0], []
    monkeypatch.setattr(processor.curves.time, "perf_counter", lambda: now[0])

    def save(path, history):
        drawings.append(now[0])
        now[0] += 0.25

    monkeypatch.setattr(processor.curves, "save_curves", save)
    curves = Curves(tmp_path)
    for _ in range(30):
        curves.renew()
        now[0] += 1.0
    assert drawings == [100.0, 113.25, 126.5]  # 0.25 s are 2 % of 12.5 s
    curves.renew(last=True)
    assert len(drawings) == 4


def test_every_epoch_replaces_the_file(tmp_path):
    (tmp_path / FILE).write_text("of an earlier run")
    curves, drawings = Curves(tmp_path), set()
    for epochs in (1, 2, 3):
        (tmp_path / "history.json").write_text(json.dumps({"clean": make_stage(epochs, "id")}))
        curves.renew(last=True)
        drawings.add((tmp_path / FILE).read_bytes())
    assert len(drawings) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"history.json", FILE}


def test_only_the_first_process_draws(tmp_path, monkeypatch):
    monkeypatch.setattr(processor.curves.distributed, "is_main", lambda: False)
    Curves(tmp_path).renew(last=True)
    assert not (tmp_path / FILE).exists()


def test_drawing_120_epochs_of_all_stages_costs_little(tmp_path):
    history = {
        name: make_stage(120, "a", "b", "c", evaluated=range(10, 121, 10)) for name in ("clean", "corrupted", "align")
    }
    (tmp_path / "history.json").write_text(json.dumps(history))
    curves = Curves(tmp_path)
    curves.renew(last=True)  # loads fonts
    start = time.process_time()
    curves.renew(last=True)
    assert time.process_time() - start < 2  # 0.3 s on an idle core
