"""Worker processes of a loader that are killed while they load."""

import os
import re
import signal
import time

import pytest
import torch
from torch.utils.data import DataLoader

from datasets.samplers import RandomBatchSampler
from processor import do_train
from processor.batches import LostWorker, loading
from processor.evaluate import extract_features
from tests.processor.small_run import CPU, Identity, Loader, Numbers, build, make_cfg, make_data
from utils.errors import UserError


class Killed(torch.utils.data.Dataset):
    """A data set whose sample `index` kills the worker that reads it while `trap` exists."""

    def __init__(self, dataset, trap, *, at, number=signal.SIGKILL):
        self.dataset, self.trap, self.at, self.number = dataset, trap, at, number

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, key):
        if self.trap.exists() and self.at(key):
            os.kill(os.getpid(), self.number)
        return self.dataset[key]


def train_data(trap):
    data, _ = make_data()
    killed = Killed(Loader(data.splits.train), trap, at=lambda key: (key.epoch, key.position) == (1, 7))
    options = {"num_workers": 1, "persistent_workers": True, "generator": torch.Generator()}
    loader = DataLoader(killed, batch_sampler=RandomBatchSampler(12, 6, 0), **options)
    object.__setattr__(data, "train", loader)
    return data


def test_training_resumes_to_the_same_bits_after_a_worker_was_killed(tmp_path):
    trap, found = tmp_path / "trap", {}
    for run in ("whole", "killed"):
        cfg = make_cfg(tmp_path / run, "SOLVER.MAX_EPOCHS", "2")
        data = train_data(trap)
        if run == "killed":
            trap.touch()
            started = time.monotonic()
            with pytest.raises(UserError) as raised:
                do_train(cfg, data, *build(cfg, data), device=CPU)
            assert time.monotonic() - started < 30
            text = str(raised.value)
            assert "a worker process of the loader ended with SIGKILL" in text
            assert "lower DATALOADER.NUM_WORKERS or SOLVER.IMS_PER_BATCH" in text
            last = tmp_path / "killed" / "checkpoints" / "clean_last.pth"
            assert re.search(rf"after 1 epochs and [01] steps is in {last}; SOLVER.RESUME auto resumes", text)
            trap.unlink()
            cfg, data = make_cfg(tmp_path / run, "SOLVER.MAX_EPOCHS", "2", "SOLVER.RESUME", "auto"), train_data(trap)
        parts = build(cfg, data)
        do_train(cfg, data, *parts, device=CPU)
        found[run] = parts[0].state_dict()
    assert [name for name, value in found["whole"].items() if not torch.equal(value, found["killed"][name])] == []


@pytest.mark.parametrize(
    ("number", "message"),
    [(signal.SIGKILL, "ended with SIGKILL"), (signal.SIGSEGV, "ended with SIGSEGV"), (signal.SIGBUS, "/dev/shm")],
)
def test_a_worker_killed_in_a_test(tmp_path, number, message):
    (tmp_path / "trap").touch()
    dataset = Killed(Numbers(), tmp_path / "trap", at=lambda index: index == 9, number=number)
    handler = signal.getsignal(signal.SIGCHLD)
    with pytest.raises(LostWorker, match=message):
        extract_features(Identity(), DataLoader(dataset, batch_size=1, num_workers=2), device=CPU)
    if handler not in (signal.SIG_DFL, None):
        assert signal.getsignal(signal.SIGCHLD) == handler


class Full(Numbers):
    def __getitem__(self, index):
        raise RuntimeError("unable to write to file </torch_1_2_3>: No space left on device (28)")


class Broken(Numbers):
    def __getitem__(self, index):
        raise RuntimeError("an error of the data set's own")


def test_full_shared_memory_and_other_errors_of_a_worker():
    for dataset, kind, message in (
        (Full(), LostWorker, "docker run --shm"),
        (Broken(), RuntimeError, "data set's own"),
    ):
        with loading(DataLoader(dataset, num_workers=1)) as batches, pytest.raises(kind, match=message):
            next(batches)
