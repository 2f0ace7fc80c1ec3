"""Names of the Hugging Face hub: which file to put where without a network, and what the cache already has."""

import json
import logging

import pytest
import timm
import torch
from safetensors.torch import save_file

from config import load_cfg, stage_cfg
from model.vit import TransReIDViT
from model.vit_sizes import vit_size
from model.weights.hub import is_hub_name, read_hub
from model.weights.load import check_stages
from model.weights.pretrained import load_pretrained
from tests.model.test_cfat import SMALL
from utils.errors import UserError

NAME = "test_vit.r160_in1k"
REVISION = "0" * 40


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """huggingface_hub's cache, empty, without a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "hub"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return timm.create_model("test_vit")


def fill(cache, repository: str, **files) -> None:
    """Puts files into the cache as huggingface_hub lays them out: NAME=content, bytes or a state dict."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(REVISION)
    for name, content in files.items():
        path = folder / "snapshots" / REVISION / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content)
        elif name.endswith(".safetensors"):
            save_file(content, path)
        else:
            torch.save(content, path)


def fails(path: str) -> str:
    with pytest.raises(UserError) as caught:
        read_hub(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("path", "file", "place"),
    [
        (f"timm:{NAME}", f"model.safetensors of https://huggingface.co/timm/{NAME}", f"{NAME}.safetensors"),
        ("timm:test_vit", f"model.safetensors of https://huggingface.co/timm/{NAME}", "test_vit.safetensors"),
        ("hf-hub:owner/a.b", "model.safetensors of https://huggingface.co/owner/a.b", "a.b.safetensors"),
        ("hf_hub:owner/a", "model.safetensors of https://huggingface.co/owner/a", "a.safetensors"),
        ("hf_hub:owner/a@v1/b/c.pth", "b/c.pth of https://huggingface.co/owner/a", "a.pth"),
    ],
)
def test_without_a_network_the_error_says_which_file_to_put_where(path, file, place, cache):
    text = fails(path)
    assert text.startswith(f"MODEL.PRETRAIN_PATH {path}: cannot be fetched (")
    assert f"download {file} on another machine, put it to pretrained/{place} and set MODEL.PRETRAIN_PATH" in text


def test_weights_that_are_in_no_hub_repository(cache, monkeypatch):
    def download(url, *_, **__):
        raise OSError(f"no network for {url}")

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    text = fails("timm:gcvit_xxtiny.in1k")
    assert "cannot be fetched (no network for https://github.com/" in text
    assert "download https://github.com/" in text
    assert "put it to pretrained/gcvit_xxtiny.in1k.pth" in text


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("timm:test_vitt", "timm has no model of this name; did you mean test_vit"),
        ("timm:test_vit.none", "Invalid pretrained tag"),
        ("timm:", "timm has no model of this name"),
        ("hf-hub:a/b/c.pth", "no repository of the Hugging Face hub; expected hf-hub:OWNER/NAME"),
        ("hf_hub:a", r"expected hf_hub:OWNER/NAME\[/FILE\]"),
        ("hf_hub:a/../../etc/passwd", r"expected hf_hub:OWNER/NAME\[/FILE\]"),
        ("hf_hub:a/b@", r"expected hf_hub:OWNER/NAME\[/FILE\]"),
    ],
)
def test_names_of_nothing(path, message, cache):
    with pytest.raises(UserError, match=f"MODEL.PRETRAIN_PATH {path}: .*{message}"):
        read_hub(path)


def test_a_model_without_published_weights(cache):
    without = sorted({*timm.list_models("vit_*")} - {name.split(".")[0] for name in timm.list_pretrained("vit_*")})
    assert "timm has no weights of it; timm.list_pretrained() has the names" in fails(f"timm:{without[0]}")


@pytest.mark.parametrize("prefix", ["timm:", "hf-hub:timm/", "hf_hub:timm/"])
def test_the_cache_is_read_without_a_network(prefix, cache, model):
    config = {
        "architecture": "test_vit",
        "num_classes": 1000,
        "pretrained_cfg": timm.get_pretrained_cfg(NAME).to_dict(),
    }
    fill(cache, f"timm/{NAME}", **{"model.safetensors": model.state_dict(), "config.json": json.dumps(config)})
    base = TransReIDViT((160, 160), vit_size("test_vit"))
    load_pretrained(base, f"{prefix}{NAME}")
    assert torch.equal(base.pos_embed, model.pos_embed)
    assert torch.equal(base.blocks[1].mlp.fc1.weight, model.blocks[1].mlp.fc1.weight)
    stored = read_hub(f"{prefix}{NAME}").config
    assert stored == ({} if prefix == "hf_hub:timm/" else {"INPUT.SIZE_TEST": [160, 160]})


def test_files_of_any_repository(cache, model, caplog):
    state = model.state_dict()
    wrapped = {
        "teacher": {f"backbone.{name}": value for name, value in state.items()},
        "student": state | {"x": state["norm.bias"]},
    }
    fill(cache, "owner/a", **{"pytorch_model.bin": state, "other/last.pth": wrapped})
    with caplog.at_level(logging.INFO):
        assert read_hub("hf_hub:owner/a").state.keys() == state.keys()
    assert "MODEL.PRETRAIN_PATH hf_hub:owner/a: " in caplog.text
    assert "pytorch_model.bin is read" in caplog.text
    assert read_hub("hf_hub:owner/a/other/last.pth").state.keys() == state.keys()
    assert "x" in read_hub("hf_hub:owner/a/other/last.pth", entry="student").state
    assert "cannot be fetched" in fails("hf_hub:owner/a/none.pth")
    fill(cache, "owner/a", **{"model.safetensors": {"norm.weight": torch.zeros(2)}})  # comes first
    assert list(read_hub("hf_hub:owner/a").state) == ["norm.weight"]
    assert "cannot be fetched" in fails("hf_hub:owner/a@other")


def test_a_damaged_cache(cache, model):
    fill(cache, f"timm/{NAME}", **{"model.safetensors": "nothing", "config.json": "{}"})
    assert "cannot be fetched" in fails(f"timm:{NAME}")
    assert "cannot be fetched" in fails(f"hf-hub:timm/{NAME}")
    assert "not a checkpoint of torch.save or safetensors" in fails(f"hf_hub:timm/{NAME}")


def test_which_paths_are_names():
    assert all(map(is_hub_name, ("timm:a", "hf-hub:a/b", "hf_hub:a/b")))
    assert not any(map(is_hub_name, ("pretrained/timm:a", "hf-hub", "timm.pth", "/timm:a")))


@pytest.mark.parametrize("path", ["timm:test_vit", "hf-hub:owner/a", "hf_hub:owner/a"])
def test_names_are_not_looked_for_as_files(path, cache):
    check_stages([stage_cfg(load_cfg(opts=[*SMALL, "MODEL.PRETRAIN_PATH", path]), "clean")])
