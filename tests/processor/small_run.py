"""A small run for the tests of this folder: a data set in memory, a tiny configuration, and what is built from them."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import default_collate

from config import load_cfg
from datasets.samplers import RandomBatchSampler
from loss import make_loss
from model import make_model
from solver import make_optimizer, make_scheduler
from utils.structures import DataBundle, DatasetSplits, ImageRecord

CPU = torch.device("cpu")
SIZE = 32


def render_image(pid, camid, number):
    """An image whose four quarters show the identity, with the camera's brightness and some noise."""
    rng = np.random.default_rng([pid, camid, number])
    quarters = np.random.default_rng(pid).integers(40, 216, (2, 2, 3))
    image = np.kron(quarters, np.ones((SIZE // 2, SIZE // 2, 1))) + 5 * camid + rng.normal(0, 6, (SIZE, SIZE, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


class Loader:
    """Batches of rendered images, as a DataLoader yields them; corrupted ones are darkened, more so in each repeat."""

    collate_fn = staticmethod(default_collate)

    def __init__(self, records, condition=None, repeat=0, batch_size=6):
        self.records, self.condition, self.repeat = records, condition, repeat
        self.dataset, self.batch_sampler = self, RandomBatchSampler(len(records), batch_size, 0)
        if condition is not None:  # for testing: every image, in order
            self.batch_sampler = torch.utils.data.BatchSampler(range(len(records)), batch_size, drop_last=False)

    def __len__(self):
        return len(self.batch_sampler)

    def image(self, index):
        image = render_image(self.records[index].pid, self.records[index].camid, index)
        clean = self.condition is None or self.condition.is_clean
        if clean:
            return image
        return (image * (0.5 - 0.1 * self.repeat - 0.05 * self.condition.severity)).astype(np.uint8)

    def __getitem__(self, key):
        index = key if isinstance(key, int) else key.index
        record = self.records[index]
        image = torch.from_numpy(self.image(index).transpose(2, 0, 1).copy())
        corrupted = (image * 0.6).to(torch.uint8)
        labels = {"pids": record.pid, "camids": record.camid, "viewids": 0, "paths": record.path}
        return {"images": image, "corrupted": corrupted, **labels}

    def __iter__(self):
        return (default_collate([self[key] for key in keys]) for keys in self.batch_sampler)


def make_data():
    def records(pids, cameras):
        return tuple(ImageRecord(f"{pid}_{camera}.jpg", pid, camera) for pid in pids for camera in cameras)

    splits = DatasetSplits(
        records(range(4), (0, 1, 2)), records(range(4, 8), (0,)), records(range(4, 8), (1, 2)), name="rendered"
    )
    requests = []

    def test_loader(split, condition, repeat):
        requests.append((split, condition.corruption, repeat))
        return Loader(getattr(splits, split), condition, repeat)

    def read_test_image(split, index, condition, repeat):
        return Loader(getattr(splits, split), condition, repeat).image(index)

    return DataBundle(splits, Loader(splits.train), test_loader, read_test_image, 4, 3, 1), requests


SETTINGS = {
    "MODEL.TRANSFORMER_TYPE": "vit_tiny_patch16_128_TransReID",
    "INPUT.SIZE_TRAIN": [SIZE, SIZE],
    "INPUT.SIZE_TEST": [SIZE, SIZE],
    "SOLVER.OPTIMIZER_NAME": "AdamW",
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.WARMUP_EPOCHS": 0,
    "SOLVER.MAX_EPOCHS": 3,
    "CFAT.STAGE": "clean",
    "TEST.FEATURE": "class_token",
    "TEST.REPEATS": 3,
}


def make_cfg(tmp_path, *opts):
    settings = {"OUTPUT_DIR": tmp_path, **SETTINGS}
    return load_cfg(opts=[*(str(part) for pair in settings.items() for part in pair), *opts])


def build(cfg, data):
    torch.manual_seed(0)
    model = make_model(cfg, num_classes=data.num_classes, num_cameras=data.num_cameras, num_views=data.num_views)
    loss_fn = make_loss(cfg, num_classes=data.num_classes, feat_dim=model.embed_dim)
    optimizer = make_optimizer(cfg, model, loss_fn)
    return model, loss_fn, optimizer, make_scheduler(cfg, optimizer)


class MeanColour(nn.Module):
    """A model that needs no training: its features are the colours of the quarters."""

    def extract(self, images, camids, viewids):
        return nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


class Numbers(torch.utils.data.Dataset):
    """Samples without images, for a large gallery that loads at once."""

    def __len__(self):
        return 300

    def __getitem__(self, index):
        image = torch.full((1,), index % 256, dtype=torch.uint8)
        return {"images": image, "pids": index, "camids": 1, "viewids": 0, "paths": f"{index}.jpg"}


class Identity(nn.Module):
    def extract(self, images, camids, viewids):
        return images
