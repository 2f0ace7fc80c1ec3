import csv
import dataclasses
import json
import math
import os
import resource

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import default_collate

from config import load_cfg
from corruption import PROTOCOLS, make_corruption_set, make_matrix, make_test_policy
from datasets.samplers import RandomBatchSampler
from loss import make_loss
from model import make_model
from processor import check_test_settings, do_inference, do_test, do_train
from processor import evaluate as inference
from processor.batches import to_device
from processor.evaluate import FeatureBank, extract_features, gather_features
from processor.step import TrainStep
from solver import make_optimizer, make_scheduler
from utils.checkpoints import load_checkpoint
from utils.errors import UserError
from utils.metrics.evaluate import evaluate_features
from utils.metrics.reranking import ReRanking
from utils.structures import Condition, DataBundle, DatasetSplits, FeatureSet, ImageRecord, Protocol

CPU = torch.device("cpu")
SIZE = 32


def draw_person(pid, camid, number):
    """A picture whose four quarters tell the identity, with the camera's light and some noise."""
    rng = np.random.default_rng([pid, camid, number])
    quarters = np.random.default_rng(pid).integers(40, 216, (2, 2, 3))
    image = np.kron(quarters, np.ones((SIZE // 2, SIZE // 2, 1))) + 5 * camid + rng.normal(0, 6, (SIZE, SIZE, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


class Loader:
    """Batches of drawn people, as a DataLoader gives them; the corrupted ones are darkened, more so in each repeat."""

    collate_fn = staticmethod(default_collate)

    def __init__(self, records, condition=None, repeat=0, batch_size=6):
        self.records, self.condition, self.repeat = records, condition, repeat
        self.dataset, self.batch_sampler = self, RandomBatchSampler(len(records), batch_size, 0)
        if condition is not None:  # for testing: every picture, in order
            self.batch_sampler = torch.utils.data.BatchSampler(range(len(records)), batch_size, drop_last=False)

    def __len__(self):
        return len(self.batch_sampler)

    def picture(self, index):
        image = draw_person(self.records[index].pid, self.records[index].camid, index)
        clean = self.condition is None or self.condition.is_clean
        if clean:
            return image
        return (image * (0.5 - 0.1 * self.repeat - 0.05 * self.condition.severity)).astype(np.uint8)

    def __getitem__(self, key):
        index = key if isinstance(key, int) else key.index
        record = self.records[index]
        image = torch.from_numpy(self.picture(index).transpose(2, 0, 1).copy())
        return {
            "images": image, "corrupted": (image * 0.6).to(torch.uint8), "pids": record.pid, "camids": record.camid,
            "viewids": 0, "paths": record.path,
        }  # fmt: skip

    def __iter__(self):
        return (default_collate([self[key] for key in keys]) for keys in self.batch_sampler)


def make_data():
    def records(pids, cameras):
        return tuple(ImageRecord(f"{pid}_{camera}.jpg", pid, camera) for pid in pids for camera in cameras)

    splits = DatasetSplits(
        records(range(4), (0, 1, 2)), records(range(4, 8), (0,)), records(range(4, 8), (1, 2)), name="drawn"
    )
    requests = []

    def test_loader(split, condition, repeat):
        requests.append((split, condition.corruption, repeat))
        return Loader(getattr(splits, split), condition, repeat)

    def read_test_image(split, index, condition, repeat):
        return Loader(getattr(splits, split), condition, repeat).picture(index)

    return DataBundle(splits, Loader(splits.train), test_loader, read_test_image, 4, 3, 1), requests


def make_cfg(tmp_path, *opts):
    return load_cfg(opts=[
        "OUTPUT_DIR", str(tmp_path), "MODEL.TRANSFORMER_TYPE", "vit_tiny_patch16_128_TransReID",
        "INPUT.SIZE_TRAIN", f"[{SIZE}, {SIZE}]", "INPUT.SIZE_TEST", f"[{SIZE}, {SIZE}]",
        "SOLVER.OPTIMIZER_NAME", "AdamW",
        "SOLVER.BASE_LR", "0.001", "SOLVER.WARMUP_EPOCHS", "0", "SOLVER.MAX_EPOCHS", "3", "CFAT.STAGE", "clean",
        "TEST.FEATURE", "class_token", "TEST.REPEATS", "3", *opts,
    ])  # fmt: skip


def build(cfg, data):
    torch.manual_seed(0)
    model = make_model(cfg, num_classes=data.num_classes, num_cameras=data.num_cameras, num_views=data.num_views)
    loss_fn = make_loss(cfg, num_classes=data.num_classes, feat_dim=model.embed_dim)
    optimizer = make_optimizer(cfg, model, loss_fn)
    return model, loss_fn, optimizer, make_scheduler(cfg, optimizer)


@pytest.mark.parametrize("stage", ["clean", "corrupted", "align", "bridge"])
def test_a_step_moves_what_learns_and_lowers_the_loss(tmp_path, stage):
    data, _ = make_data()
    model, loss_fn, optimizer, _ = build(make_cfg(tmp_path, "CFAT.STAGE", stage), data)
    batch = to_device(next(iter(data.train)), CPU)
    assert batch["images"].max() <= 1
    before = {name: value.clone() for name, value in model.named_parameters()}
    model.train()
    step = TrainStep(model, loss_fn, optimizer, device=CPU)
    losses = [step(batch)["loss"].item() for _ in range(12)]
    assert losses[-1] < losses[0]
    for name, parameter in model.named_parameters():
        # cameras of this batch only, and nothing that is frozen
        assert torch.equal(before[name], parameter) != parameter.requires_grad or "sie_embed" in name, name


def test_training_writes_checkpoints_history_and_tensorboard(tmp_path):
    data, _ = make_data()
    cfg = make_cfg(tmp_path, "SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.EVAL_PERIOD", "3")
    state = do_train(cfg, data, *build(cfg, data), device=CPU, protocols=(PROTOCOLS["clean"],))
    assert state.epoch == 3
    assert [set(row) for row in state.history] == [{"loss", "id_loss", "triplet_loss", "grad_norm", "accuracy"}] * 3
    assert [row["epoch"] for row in state.evaluations] == [3]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "clean.pth",
        "clean_2.pth",
        "clean_best.pth",
    ]
    content = load_checkpoint(state.checkpoint)
    assert content["meta"]["stage"] == "clean"
    assert (content["meta"]["epoch"], content["meta"]["num_classes"]) == (3, 4)
    assert "CFAT" in content["meta"]["config"]
    assert list((tmp_path / "tensorboard" / "clean").iterdir())


def test_training_is_deterministic(tmp_path):
    states = []
    for run in ("a", "b"):
        data, _ = make_data()
        cfg = make_cfg(tmp_path / run)
        parts = build(cfg, data)
        do_train(cfg, data, *parts, device=CPU)
        states.append(parts[0].state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_loss_that_is_not_finite_ends_training_with_its_terms(tmp_path):
    data, _ = make_data()
    cfg = make_cfg(tmp_path)
    model, loss_fn, optimizer, scheduler = build(cfg, data)
    model.classifier.weight.data.fill_(math.nan)
    with pytest.raises(
        UserError, match=r"stage clean, epoch 1, step 1: the loss is not finite \(loss nan, id_loss nan"
    ):
        do_train(cfg, data, model, loss_fn, optimizer, scheduler, device=CPU)
    assert list((tmp_path / "checkpoints").iterdir()) == []
    saved = torch.load(tmp_path / "not_finite_clean_epoch1_step1.pth", weights_only=True)
    assert (saved["epoch"], saved["step"], len(saved["batch"]["paths"])) == (0, 0, 6)
    first = next(iter(make_data()[0].train))
    assert saved["batch"]["paths"] == first["paths"]
    assert torch.equal(saved["batch"]["images"], first["images"])


class MeanColour(nn.Module):
    """Features that need no training: the colours of the quarters."""

    def extract(self, images, camids, viewids):
        return nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


def test_every_set_is_extracted_once_and_protocols_pair_them():
    data, requests = make_data()
    results = do_inference(MeanColour(), data, tuple(PROTOCOLS.values()), device=CPU, repeats=3)
    assert sorted(requests) == sorted(
        [(split, "clean", 0) for split in ("query", "gallery")]
        + [(split, "random", repeat) for split in ("query", "gallery") for repeat in range(3)]
    )
    assert list(results) == ["clean", "corrupted", "corrupted_query", "corrupted_gallery"]
    assert [len(metrics.repeats) for metrics in results.values()] == [1, 3, 3, 3]
    assert results["clean"].mAP == 1.0
    assert results["corrupted_gallery"].mAP < 1.0  # darkened people look like others
    alone = do_inference(MeanColour(), data, (PROTOCOLS["corrupted_gallery"],), device=CPU, repeats=3)
    assert [m.mAP for m in alone["corrupted_gallery"].repeats] == [m.mAP for m in results["corrupted_gallery"].repeats]


def test_bank_forgets_later_draws_only():
    data, _ = make_data()
    bank = FeatureBank(MeanColour(), data, device=CPU)
    do_inference(bank.model, data, tuple(PROTOCOLS.values()), device=CPU, repeats=2, bank=bank)
    assert {key[2] for key in bank.kept} == {0}
    assert len(bank.kept) == 4


MATRIX_OPTS = (
    "TEST.MATRIX", "corrupted_query", "TEST.MATRIX_REPEATS", "2", "TEST.REPEATS", "1",
    "CORRUPTION.TEST", "['fog', 'rain']", "CORRUPTION.SEVERITIES", "[1, 4]",
)  # fmt: skip


def test_a_matrix_is_tested_cell_by_cell(tmp_path, caplog):
    caplog.set_level("INFO")
    data, requests = make_data()
    cfg = make_cfg(tmp_path, *MATRIX_OPTS)
    corruptions = make_corruption_set(cfg, make_test_policy(cfg))
    data = dataclasses.replace(data, corruptions=corruptions)
    do_test(cfg, data, MeanColour(), (PROTOCOLS["corrupted"],), device=CPU, weight="a.pth", matrix=make_matrix(cfg))
    # clean is tested for the drop; the matrix corrupts the query side alone; every set is extracted once
    assert len(requests) == 2 + 2 + 2 * 2 * 2
    assert [r for r in requests if r[0] == "gallery"] == [("gallery", "clean", 0), ("gallery", "random", 0)]
    content = json.loads((tmp_path / "results.json").read_text())
    assert set(content["protocols"]) == {"clean", "corrupted"}
    assert content["matrix"]["mAP"].keys() == {"fog", "rain"}
    assert content["summary"]["clean"]["mAP"] == 1.0
    assert 0 < content["summary"]["matrix"]["drop"]["mAP"] < 1
    with (tmp_path / "results.csv").open() as handle:
        cells = [row for row in csv.DictReader(handle) if row["protocol"] == "corrupted_query"]
    assert [(row["corruption"], row["severity"], row["repeat"]) for row in cells] == [
        (name, severity, repeat) for name in ("fog", "rain") for severity in "14" for repeat in "01"
    ]
    assert (tmp_path / "corruption_matrix.png").stat().st_size > 1000
    assert "mean corrupted" in caplog.text
    assert not list(tmp_path.glob("results.*.*"))


def test_one_cell_at_a_time_is_in_memory():
    data, _ = make_data()
    bank = FeatureBank(MeanColour(), data, device=CPU)
    held = []

    class Watched(MeanColour):
        def extract(self, *inputs):
            held.append(sum(not key[1].is_clean for key in bank.kept))
            return super().extract(*inputs)

    bank.model = Watched()
    cells = [Protocol(f"corrupted/fog/{k}", Condition("fog", k), Condition("fog", k)) for k in range(1, 6)]
    do_inference(bank.model, data, tuple(cells), device=CPU, repeats=2, bank=bank)
    assert max(held) == 1
    assert not bank.kept


def test_results_of_the_settings_outlive_a_matrix_that_fails(tmp_path):
    data, _ = make_data()
    cfg = make_cfg(tmp_path, *MATRIX_OPTS)
    loader = data.test_loader

    def failing(split, condition, repeat):
        if condition.corruption == "rain":
            raise UserError("picture x.jpg: cannot be read")
        return loader(split, condition, repeat)

    corruptions = make_corruption_set(cfg, make_test_policy(cfg))
    data = dataclasses.replace(data, corruptions=corruptions, test_loader=failing)
    with pytest.raises(UserError, match="cannot be read"):
        do_test(cfg, data, MeanColour(), tuple(PROTOCOLS.values()), device=CPU, weight="a.pth", matrix=make_matrix(cfg))
    content = json.loads((tmp_path / "results.json").read_text())
    assert set(content["protocols"]) == set(PROTOCOLS)
    assert "matrix" not in content


def test_extraction_restores_the_mode_and_names_a_broken_picture():
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
    with pytest.raises(UserError, match=r"picture 5_0\.jpg: its feature is not finite"):
        extract_features(Broken(), data.test_loader("query", PROTOCOLS["clean"].query, 0), device=CPU)


def test_a_process_without_pictures_has_no_features(monkeypatch):
    data, _ = make_data()
    whole = extract_features(MeanColour(), data.test_loader("query", PROTOCOLS["clean"].query, 0), device=CPU)
    none = extract_features(MeanColour(), [], device=CPU)
    monkeypatch.setattr(inference.distributed, "all_gather_objects", lambda share: [share, whole])
    found = gather_features(none)
    assert torch.equal(found.features, whole.features)
    assert (found.paths, found.pids.tolist()) == (whole.paths, whole.pids.tolist())


def test_report_writes_results_picture_and_comparison(tmp_path, caplog):
    caplog.set_level("INFO")
    data, _ = make_data()
    protocols = tuple(PROTOCOLS.values())
    first = make_cfg(tmp_path / "first", "TEST.RANKED_QUERIES", "2")
    do_test(first, data, MeanColour(), protocols, device=CPU, weight="first.pth")
    content = json.loads((tmp_path / "first" / "results.json").read_text())
    assert content["protocols"]["corrupted"]["repeats"] == 3
    assert len((tmp_path / "first" / "results.csv").read_text().splitlines()) == 1 + 1 + 3 * 3
    assert (tmp_path / "first" / "ranked_list.png").stat().st_size > 1000
    second = make_cfg(tmp_path / "second", "TEST.COMPARE", str(tmp_path / "first"))
    do_test(second, data, MeanColour(), protocols[:1], device=CPU, weight="second.pth")
    table = caplog.text.rsplit("second.pth on drawn", 1)[1]
    assert table.index("second.pth") < table.index("first.pth")


def test_a_comparison_that_broke_since_the_start_costs_no_results(tmp_path, caplog):
    data, _ = make_data()
    (tmp_path / "other").mkdir()
    os.mkfifo(tmp_path / "other" / "results.json")
    cfg = make_cfg(tmp_path / "run", "TEST.COMPARE", str(tmp_path / "other"))
    do_test(cfg, data, MeanColour(), (PROTOCOLS["clean"],), device=CPU, weight="a.pth")
    assert f"TEST.COMPARE: {tmp_path / 'other' / 'results.json'}: cannot be read (is no regular file" in caplog.text
    assert (tmp_path / "run" / "results.json").exists()


def test_conventions_and_re_ranking_reach_the_numbers_and_the_record(tmp_path, caplog):
    data, _ = make_data()
    gallery = data.test_loader("gallery", Condition("random"), 0)
    query = data.test_loader("query", Condition(), 0)
    sets = [extract_features(MeanColour(), loader, device=CPU) for loader in (query, gallery)]
    options = {"TEST.AP": "trapezoid", "TEST.RE_RANKING_K1": "3", "TEST.RE_RANKING_K2": "2",
               "TEST.RE_RANKING_LAMBDA": "0.4", "TEST.RE_RANKING": "True"}  # fmt: skip
    flat = [part for pair in options.items() for part in pair]
    content = do_test(make_cfg(tmp_path, *flat), data, MeanColour(), (PROTOCOLS["corrupted_gallery"],), device=CPU,
                      weight="a.pth")  # fmt: skip
    expected = evaluate_features(*sets, ap="trapezoid", re_ranking=ReRanking(3, 2, 0.4))
    with (tmp_path / "results.csv").open() as handle:
        assert float(next(csv.DictReader(handle))["mAP"]) == expected.mAP
    assert content["evaluation"] == {
        "metric": "euclidean",
        "ap": "trapezoid",
        "cmc": "standard",
        "re_ranking": {"k1": 3, "k2": 2, "lambda_value": 0.4},
    }
    assert evaluate_features(*sets, re_ranking=ReRanking(3, 2, 0.4)).mAP != expected.mAP
    cosine = do_test(make_cfg(tmp_path / "cosine", "TEST.METRIC", "cosine"), data, MeanColour(),
                     (PROTOCOLS["corrupted_gallery"],), device=CPU, weight="a.pth")  # fmt: skip
    assert cosine["protocols"]["corrupted_gallery"]["mAP"]["mean"] == 1  # darkening leaves directions as they are
    assert cosine["evaluation"]["metric"] == "cosine"
    assert "cosine, AP step, CMC standard" in (tmp_path / "cosine" / "results.csv").read_text()
    again = make_cfg(tmp_path / "again", "TEST.COMPARE", str(tmp_path / "cosine"))
    do_test(again, data, MeanColour(), (PROTOCOLS["clean"],), device=CPU, weight="a.pth")
    assert "was evaluated otherwise" in caplog.text


def test_saved_features_and_thresholds(tmp_path, caplog):
    caplog.set_level("INFO")
    data, requests = make_data()
    cfg = make_cfg(tmp_path, "TEST.SAVE_FEATURES", "True", "TEST.THRESHOLDS", "True")
    content = do_test(cfg, data, MeanColour(), tuple(PROTOCOLS.values()), device=CPU, weight="a.pth")
    assert len(requests) == 2 + 2 * 3  # nothing is extracted twice
    saved = {path.stem: dict(np.load(path)) for path in (tmp_path / "features").iterdir()}
    assert set(saved) == {"query_clean", "query_corrupted", "gallery_clean", "gallery_corrupted"}
    query, gallery = saved["query_clean"], saved["gallery_corrupted"]
    assert query["paths"].tolist() == [record.path for record in data.splits.query]
    sets = [
        FeatureSet(*(torch.from_numpy(part["features"]), part["pids"], part["camids"])) for part in (query, gallery)
    ]
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    first = next(row for row in rows if row["protocol"] == "corrupted_gallery")
    assert evaluate_features(*sets).mAP == float(first["mAP"])  # the file is enough to get the numbers again
    assert content["protocols"]["clean"]["mAP"]["mean"] == 1
    points = list(csv.DictReader((tmp_path / "thresholds.csv").open()))
    assert {row["protocol"] for row in points} == set(PROTOCOLS)
    clean = next(row for row in points if row["protocol"] == "clean")
    assert (clean["point"], float(clean["equal_error_rate"])) == ("equal error rate", 0)
    assert (int(clean["num_genuine"]), int(clean["num_impostor"])) == (4 * 2, 4 * 6)
    assert "euclidean distance that means the same person" in caplog.text


def test_settings_that_could_not_end_well_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.results\.json: cannot be read"):
        check_test_settings(make_cfg(tmp_path, "TEST.COMPARE", "nowhere"))


class Brightness(nn.Module):
    """One feature, a pixel of the picture, by which some people look alike; whole numbers, so that sums are exact."""

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
        answers = [gallery[i] for i in distances.argsort(stable=True) if gallery[i].path != record.path]
        matches = [answer.pid == record.pid for answer in answers]
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


class Numbers(torch.utils.data.Dataset):
    """Samples without images: the loader of a large gallery, in no time."""

    def __len__(self):
        return 300

    def __getitem__(self, index):
        return {"images": torch.full((1,), index % 256, dtype=torch.uint8), "pids": index, "camids": 1, "viewids": 0,
                "paths": f"{index}.jpg"}  # fmt: skip


class Identity(nn.Module):
    def extract(self, images, camids, viewids):
        return images


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


class UnevenSampler(RandomBatchSampler):
    """Epochs of other lengths, as identities with many pictures make them."""

    def draw_batches(self, rng):
        return super().draw_batches(rng)[: 1 + (self.epoch + 1) % 2]


def test_epochs_of_different_lengths(tmp_path):
    data, _ = make_data()
    data.train.batch_sampler = UnevenSampler(12, 6, 0)
    cfg = make_cfg(tmp_path)
    state = do_train(cfg, data, *build(cfg, data), device=CPU)
    assert (state.epoch, state.updates) == (3, 2 + 1 + 2)
