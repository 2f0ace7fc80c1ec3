"""Features and metrics under every protocol."""

import dataclasses
import math
import os
import resource

import numpy as np
import pytest
import torch
from torch import nn

from corruption import PROTOCOLS
from processor import do_inference
from processor.evaluate import FeatureCache, evaluate_protocols, extract_features, gather_features
from tests.processor.small_run import CPU, Identity, Loader, MeanColour, Numbers, make_data
from utils.errors import UserError
from utils.metrics.evaluate import Evaluation
from utils.structures import Condition, DataBundle, DatasetSplits, ImageRecord, Protocol


def test_every_set_is_extracted_once_and_protocols_pair_them():
    data, requests = make_data()
    results = do_inference(MeanColour(), data, tuple(PROTOCOLS.values()), device=CPU, repeats=3)
    assert sorted(requests) == sorted(
        [(split, "clean", 0) for split in ("query", "gallery")]
        + [
            (split, kind, repeat)
            for split in ("query", "gallery")
            for kind in ("random", "unseen")
            for repeat in range(3)
        ]
    )
    assert list(results) == ["clean", "corrupted", "corrupted_query", "corrupted_gallery", "unseen"]
    assert [len(metrics.repeats) for metrics in results.values()] == [1, 3, 3, 3, 3]
    assert results["clean"].mAP == 1.0
    assert results["corrupted_gallery"].mAP < 1.0  # darkened images resemble other identities
    alone = do_inference(MeanColour(), data, (PROTOCOLS["corrupted_gallery"],), device=CPU, repeats=3)
    assert [m.mAP for m in alone["corrupted_gallery"].repeats] == [m.mAP for m in results["corrupted_gallery"].repeats]


def test_the_cache_keeps_the_first_repeat():
    data, _ = make_data()
    cache = FeatureCache(MeanColour(), data, device=CPU)
    evaluate_protocols(cache, tuple(PROTOCOLS.values()), 2, Evaluation())
    assert {key[2] for key in cache.kept} == {0}
    assert len(cache.kept) == 6


def test_one_cell_at_a_time_is_in_memory():
    data, _ = make_data()
    cache = FeatureCache(MeanColour(), data, device=CPU)
    held = []

    class Watched(MeanColour):
        def extract(self, *inputs):
            held.append(sum(not key[1].is_clean for key in cache.kept))
            return super().extract(*inputs)

    cache.model = Watched()
    cells = [Protocol(f"corrupted/fog/{k}", Condition("fog", k), Condition("fog", k)) for k in range(1, 6)]
    evaluate_protocols(cache, tuple(cells), 2, Evaluation())
    assert max(held) == 1
    assert not cache.kept


def test_extraction_restores_the_mode_and_names_an_image_with_a_broken_feature():
    data, _ = make_data()

    class Broken(MeanColour):
        def extract(self, images, camids, viewids):
            assert not self.training
            features = super().extract(images, camids, viewids)
            features[1] = math.inf
            return features

    model = MeanColour().train()
    extract_features(model, data.test_loader("query", PROTOCOLS["clean"].query, 0), device=CPU)
    assert model.training
    with pytest.raises(UserError, match=r"image 5_0\.jpg: its feature is not finite"):
        extract_features(Broken(), data.test_loader("query", PROTOCOLS["clean"].query, 0), device=CPU)


def test_a_process_without_images_has_no_features(monkeypatch):
    data, _ = make_data()
    whole = extract_features(MeanColour(), data.test_loader("query", PROTOCOLS["clean"].query, 0), device=CPU)
    none = extract_features(MeanColour(), [], device=CPU)
    monkeypatch.setattr("processor.evaluate.distributed.all_gather_objects", lambda shard: [shard, whole])
    found = gather_features(none)
    assert torch.equal(found.features, whole.features)
    assert (found.paths, found.pids.tolist()) == (whole.paths, whole.pids.tolist())


class Brightness(nn.Module):
    """One feature, a pixel, by which some identities look alike; whole numbers, so that sums are exact."""

    def extract(self, images, camids, viewids):
        return (images[:, 0, 3, 3, None] * 255).round()


def test_without_cameras_only_the_querys_own_file_is_junk(tmp_path):
    gallery = tuple(ImageRecord(f"{tmp_path}/{pid}_{number}.jpg", pid, 0) for pid in range(12) for number in range(3))
    query = gallery[::4]  # every one is a file of the gallery too
    splits = DatasetSplits(gallery, query, gallery, has_cameras=False)

    def test_loader(split, condition, repeat):
        return Loader(getattr(splits, split), condition, repeat)

    data = DataBundle(splits, None, test_loader, None, 5, 1, 1)
    found = do_inference(Brightness(), data, (PROTOCOLS["clean"],), device=CPU)["clean"]

    sides = [
        extract_features(Brightness(), test_loader(split, Condition(), 0), device=CPU) for split in ("query", "gallery")
    ]
    precisions = []
    for feature, record in zip(sides[0].features, query, strict=True):
        distances = (sides[1].features - feature).norm(dim=1)
        ranked = [gallery[i] for i in distances.argsort(stable=True) if gallery[i].path != record.path]
        matches = [other.pid == record.pid for other in ranked]
        precisions += [np.mean([(sum(matches[: i + 1])) / (i + 1) for i, match in enumerate(matches) if match])]
        assert sum(matches) == 2
    assert found.num_valid_queries == len(query)
    assert found.mAP < 0.9
    assert found.mAP == pytest.approx(np.mean(precisions), abs=1e-12)
    known = dataclasses.replace(data, splits=dataclasses.replace(splits, has_cameras=True))
    with pytest.raises(
        UserError, match="none of the 9 queries has a match in the gallery from another camera"
    ):  # one camera: every match would be junk
        do_inference(Brightness(), known, (PROTOCOLS["clean"],), device=CPU)


def test_a_gallery_of_many_batches_needs_few_open_files():
    """Tensors of worker processes hold a file each; what is kept of a batch must not."""
    used = len(os.listdir("/proc/self/fd"))
    loader = torch.utils.data.DataLoader(Numbers(), batch_size=1, num_workers=2)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 100, hard))
    try:
        found = extract_features(Identity(), loader, device=CPU)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found.pids.tolist() == list(range(300))
    assert (found.camids == 1).all()
