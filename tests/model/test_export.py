"""Exported files, read back without this project's code and held against extract; and exports that must fail."""

import json
import logging
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from model.export import METADATA, export_model
from model.jigsaw import JigsawReID, JigsawSettings
from model.reid import TransformerReID
from model.resnet import ResNetReID, ResNetTrunk
from model.vit import TransReIDViT
from model.vit_sizes import ViTSize
from utils.errors import UserError

SIZE = (64, 32)
DIFFERENT = r"the file's features are up to 1\.\d+ of their norm away from torch's, expected at most 0\.001; no file"
COUNT = 5  # images: a number that is neither traced nor checked


def make_vit(kind=TransformerReID, *parts, depth=1, num_cameras=0, num_views=0, **options):
    torch.manual_seed(0)
    base = TransReIDViT(SIZE, ViTSize(24, depth, 3), num_cameras=num_cameras, num_views=num_views)
    return kind(base, *parts, num_classes=0, **options).eval()


def make_jigsaw():
    model = make_vit(JigsawReID, JigsawSettings(), depth=2, num_cameras=4, test_feature="neck")
    return with_random_statistics(model)


def make_resnet(*, gem_pool):
    torch.manual_seed(0)
    trunk = ResNetTrunk()
    for name, blocks in (("layer1", 2), ("layer2", 1), ("layer3", 1), ("layer4", 1)):
        setattr(trunk, name, getattr(trunk, name)[:blocks])  # tracing all 16 takes long
    model = ResNetReID(trunk, gem_pool=gem_pool, num_classes=0, test_feature="neck", feat_norm=gem_pool)
    return with_random_statistics(model.eval())


def with_random_statistics(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


# name -> how the model is made, its side inputs with their numbers, the width of its feature
CASES = {
    "plain": (lambda: make_vit(depth=2), {}, 24),
    "mean of the cameras": (lambda: make_vit(num_cameras=1), {}, 24),
    "cameras and viewpoints": (lambda: make_vit(depth=2, num_cameras=4, num_views=3), {"camids": 4, "viewids": 3}, 24),
    "cameras and one viewpoint": (lambda: make_vit(num_cameras=4, num_views=1), {"camids": 4}, 24),
    "viewpoints": (lambda: make_vit(num_views=3, feat_norm=False), {"viewids": 3}, 24),
    "mirror": (lambda: make_vit(flip=True), {}, 24),
    "jigsaw": (make_jigsaw, {"camids": 4}, 120),
    "gem": (lambda: make_resnet(gem_pool=True), {}, 2048),
    "average": (lambda: make_resnet(gem_pool=False), {}, 2048),
}
ONNX_CASES = ("plain", "cameras and viewpoints", "jigsaw", "gem")
PT2_CASES = ("plain", "mean of the cameras", "cameras and one viewpoint", "viewpoints", "mirror", "average")


def read_onnx(path):
    """The session's run function on tensors, its input names, the metadata."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(**inputs):
        (feature,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        return torch.from_numpy(feature)

    return run, [each.name for each in session.get_inputs()], session.get_modelmeta().custom_metadata_map


def read_pt2(path):
    extra = {METADATA: ""}
    program = torch.export.load(path, extra_files=extra)
    module = program.module()

    def run(images, **sides):
        return module(images, **sides)

    return run, list(program.graph_signature.user_inputs), json.loads(extra[METADATA])


READERS = {".onnx": read_onnx, ".pt2": read_pt2}


@pytest.mark.parametrize(
    ("suffix", "name"), [*((".onnx", name) for name in ONNX_CASES), *((".pt2", name) for name in PT2_CASES)]
)
@torch.no_grad()
def test_a_file_computes_what_extract_does(suffix, name, tmp_path):
    make, sides, width = CASES[name]
    model, path = make(), tmp_path / "made" / f"model{suffix}"
    difference = export_model(model, path, img_size=SIZE, checkpoint="logs/run/align.pth")
    assert 0 <= difference < 1e-5
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    run, inputs, metadata = READERS[suffix](path)
    assert inputs == ["images", *sides]
    images = {"images": torch.rand(COUNT, 3, *SIZE)}
    numbers = {side: torch.randint(count, (COUNT,)) for side, count in sides.items()}
    zeros = {side: torch.zeros(COUNT, dtype=torch.int64) for side in ("camids", "viewids")}
    expected = model.extract(**images, **{**zeros, **numbers})
    torch.testing.assert_close(run(**images, **numbers), expected, atol=1e-5, rtol=1e-5)
    one = {key: value[:1] for key, value in {**images, **numbers}.items()}
    torch.testing.assert_close(run(**one), expected[:1], atol=1e-5, rtol=1e-5)
    for side in sides:
        other = {**images, **numbers, side: (numbers[side] + 1) % sides[side]}
        assert (run(**other) - expected).abs().max() > 1e-4
    assert metadata["dimension"] == str(width) == str(expected.shape[1])
    assert metadata["inputs"] == ", ".join(inputs)
    assert metadata["mirror"].startswith("the feature is the mean" if model.flip else "none")
    assert metadata["l2_normalised"] == ("true" if model.feat_norm else "false")


def test_the_metadata(tmp_path):
    model = make_vit(num_cameras=4, mean=(0.5, 0.4, 0.3))
    texts = []
    for suffix, read in READERS.items():
        export_model(model, tmp_path / f"model{suffix}", img_size=SIZE, checkpoint="logs/a.pth", metric="cosine")
        texts.append(read(tmp_path / f"model{suffix}")[2])
    assert texts[0] == texts[1]
    expected = {
        "project": "CFAT",
        "checkpoint": "a.pth",
        "torch_version": torch.__version__,
        "channels": "RGB",
        "images": "float32 (N, 3, 64, 32) in [0, 1], any N",
        "input_height": "64",
        "input_width": "32",
        "mean": "[0.5, 0.4, 0.3]",
        "std": "[0.229, 0.224, 0.225]",
        "test_feature": "patch_mean",
        "output": "feature",
        "compare": "cosine similarity, the larger the more alike",
    }
    assert expected.items() <= texts[0].items()
    assert texts[0]["camids"].startswith("int64 (N,), 0 to 3: cameras")
    onnx.checker.check_model(tmp_path / "model.onnx", full_check=True)
    graph = onnx.load(tmp_path / "model.onnx").graph
    shapes = {
        each.name: [dim.dim_param or dim.dim_value for dim in each.type.tensor_type.shape.dim]
        for each in (*graph.input, *graph.output)
    }
    assert shapes == {"images": ["batch", 3, 64, 32], "camids": ["batch"], "feature": ["batch", 24]}


@pytest.mark.parametrize("suffix", READERS)
class TestAnExport:
    def test_leaves_the_model_and_the_console_as_they_were(self, suffix, tmp_path, capfd, caplog, monkeypatch):
        # those that another test has left, which write to the console
        left = [handler for handler in logging.root.handlers if hasattr(handler, "of_project")]
        monkeypatch.setattr(logging.root, "handlers", [each for each in logging.root.handlers if each not in left])
        model = make_vit(num_cameras=4).train()
        model.base.norm.requires_grad_(False)
        learning = [parameter.requires_grad for parameter in model.parameters()]
        state = {name: value.clone() for name, value in model.state_dict().items()}
        generator, filters = torch.get_rng_state(), list(warnings.filters)
        with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            export_model(model, tmp_path / f"model{suffix}", img_size=SIZE)
        assert model.training
        assert [parameter.requires_grad for parameter in model.parameters()] == learning
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
        assert torch.equal(torch.get_rng_state(), generator)
        assert warnings.filters == filters
        assert caught == []
        assert capfd.readouterr() == ("", "")
        (line,) = caplog.messages
        assert f"exported {tmp_path / 'model'}{suffix}: " in line
        assert "inputs images, camids, largest difference from torch" in line

    def test_keeps_an_earlier_other_file_and_no_copy_of_the_same(self, suffix, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        model = make_vit()
        export_model(model, f"model{suffix}", img_size=SIZE)
        first = (tmp_path / f"model{suffix}").read_bytes()
        export_model(model, f"model{suffix}", img_size=SIZE)
        assert [path.name for path in tmp_path.iterdir()] == [f"model{suffix}"]
        nn.init.constant_(model.normalize.mean, 0.4)
        export_model(model, f"model{suffix}", img_size=SIZE)
        assert (tmp_path / f"model.1{suffix}").read_bytes() == first
        assert (tmp_path / f"model{suffix}").read_bytes() != first


class Fork(TransformerReID):
    """Computes something else where it is traced."""

    def extract(self, images, camids=None, viewids=None):
        feature = super().extract(images, camids, viewids)
        return feature.roll(1, dims=1) if torch.compiler.is_compiling() else feature


class Choice(TransformerReID):
    """Cannot be traced: what it computes depends on the images."""

    def extract(self, images, camids=None, viewids=None):
        feature = super().extract(images, camids, viewids)
        return feature if images.mean() > 0.1 else -feature


class ConstantBatch(TransformerReID):
    """Cannot be traced: it computes something else for the batch size of the trace."""

    def extract(self, images, camids=None, viewids=None):
        feature = super().extract(images, camids, viewids)
        return -feature if images.shape[0] == 2 else feature


def with_nan():
    model = make_vit()
    nn.init.constant_(model.base.norm.bias, np.nan)
    return model


@pytest.mark.parametrize(
    ("suffix", "make", "message"),
    [
        *((suffix, lambda: make_vit(Fork), DIFFERENT) for suffix in READERS),
        (".pt2", with_nan, "features are up to nan of their norm away"),
        (".onnx", lambda: make_vit(Choice), r"no file was written, it failed with: \w.+ \(\w+\)$"),
        (".pt2", lambda: make_vit(ConstantBatch), r"it failed with: Constraints violated \(batch\)"),
    ],
)
def test_a_broken_export_leaves_an_earlier_file_alone(suffix, make, message, tmp_path):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"earlier")
    with pytest.raises(UserError, match=message) as caught:
        export_model(make(), path, img_size=SIZE)
    assert "\n" not in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"earlier"


class TestErrors:
    def test_missing_packages(self, tmp_path, monkeypatch):
        for name in ("onnx", "onnxruntime"):
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UserError, match=r"needs onnx, onnxruntime, not .*: pip install onnx onnxruntime\. A name"):
            export_model(make_vit(), tmp_path / "model.onnx", img_size=SIZE)
        assert list(tmp_path.iterdir()) == []
        export_model(make_vit(), tmp_path / "model.pt2", img_size=SIZE)

    def test_another_image_size(self, tmp_path):
        with pytest.raises(UserError, match=r"export .*model.pt2: no file was written, it failed with"):
            export_model(make_vit(), tmp_path / "model.pt2", img_size=(32, 32))
        assert list(tmp_path.iterdir()) == []

    def test_another_ending(self, tmp_path):
        with pytest.raises(UserError, match="expected a file name ending in .onnx or .pt2"):
            export_model(make_vit(), tmp_path / "model.pth", img_size=SIZE)

    def test_a_place_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match="cannot be written"):
            export_model(make_vit(), tmp_path / "file" / "model.pt2", img_size=SIZE)


def test_weights_too_large_for_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.onnx._internal.exporter._onnx_program._LARGE_MODEL_THRESHOLD", 1000)
    model, path = make_vit(), tmp_path / "model.onnx"
    assert export_model(model, path, img_size=SIZE) < 1e-5
    files = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    assert set(files) == {"model.onnx", "model.onnx.data"}
    images = torch.rand(COUNT, 3, *SIZE)
    with torch.no_grad():
        torch.testing.assert_close(read_onnx(path)[0](images=images), model.extract(images), atol=1e-5, rtol=1e-5)
    nn.init.constant_(model.normalize.mean, 0.4)
    with pytest.raises(UserError, match=r"model.onnx.data is there already and belongs to an earlier model"):
        export_model(model, path, img_size=SIZE)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == files
