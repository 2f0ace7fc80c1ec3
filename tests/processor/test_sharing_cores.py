"""Training while OpenMP's threads share cores."""

import pytest
import torch

from datasets.synthetic.generate import SyntheticSettings, synthesize
from tests.processor import few_steps
from utils import openmp


@pytest.mark.filterwarnings("error:.*Profiler")
@pytest.mark.parametrize("workers", [0, 1])
def test_weights_are_the_same_to_the_last_bit(workers, tmp_path, monkeypatch):
    """With idle threads, and workers that are forked meanwhile."""
    settings = SyntheticSettings(num_identities=16, num_cameras=3, images_per_camera=2)
    synthesize(tmp_path / "market1501", settings, workers=1)
    for name in openmp.WAIT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(openmp, "PERIOD", 0.01)
    kept = []
    keep = openmp.IdleThreads.__init__
    monkeypatch.setattr(openmp.IdleThreads, "__init__", lambda self, count: (kept.append(count), keep(self, count))[1])
    opts = ("DATALOADER.NUM_WORKERS", workers)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        alone = few_steps.run(str(tmp_path), "corrupted", *map(str, opts))
        monkeypatch.setattr(openmp, "CROWDED", -1)
        with openmp.sharing_cores():
            shared = few_steps.run(str(tmp_path), "corrupted", *map(str, opts))
    finally:
        torch.set_num_threads(threads)
    assert kept
    assert shared["losses"] == alone["losses"]
    assert all(torch.equal(shared["model"][name], weights) for name, weights in alone["model"].items())
