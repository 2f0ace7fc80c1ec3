"""TorchScript archives: the same tensors as torch.jit.load gives, and nothing of the program runs."""

import zipfile

import pytest
import torch
from torch import nn

from utils.checkpoints import load_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


class Tower(nn.Module):
    """Parameters, buffers, shared and transposed tensors, and attributes that are none."""

    sizes: list[int]
    names: dict[str, int]

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 2, padding=1)
        self.blocks = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ModuleList([nn.Linear(4, 2)])[0])
        self.tied = nn.Linear(4, 4, bias=False)
        self.tied.weight = self.blocks[0].weight
        self.turned = nn.Parameter(torch.rand(3, 2).t())
        self.register_buffer("resolution", torch.tensor(224))
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("empty", torch.zeros(0, 3))
        self.sizes, self.names, self.scale, self.title = [1, 2], {"a": 1}, 0.5, "tower"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.conv1(images).mean(dim=(2, 3)))


@pytest.fixture(params=["script", "trace"])
def archive(request, tmp_path):
    torch.manual_seed(0)
    model = Tower().eval()
    script = torch.jit.script(model) if request.param == "script" else torch.jit.trace(model, torch.rand(2, 3, 4, 4))
    torch.jit.save(script, tmp_path / "tower.pt")
    return tmp_path / "tower.pt"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_tensors_of_torch_jit(dtype, archive):
    script = torch.jit.load(archive, map_location="cpu").to(dtype)
    torch.jit.save(script, archive)
    expected = torch.jit.load(archive, map_location="cpu").state_dict()
    found = load_checkpoint(archive)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
        assert (found[name].dtype, found[name].stride()) == (value.dtype, value.stride()), name


def test_nothing_of_the_program_is_unpacked(archive):
    with zipfile.ZipFile(archive) as source:
        members = {name: source.read(name) for name in source.namelist()}
    expected = load_checkpoint(archive)
    with zipfile.ZipFile(archive, "w") as target:
        for name, content in members.items():
            target.writestr(name, b"no program" if "/code/" in name or "constants" in name else content)
    with pytest.raises(RuntimeError):
        torch.jit.load(archive)
    found = load_checkpoint(archive)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    found["conv1.weight"].zero_()  # the tensors are the caller's own
    assert load_checkpoint(archive)["conv1.weight"].abs().sum() > 0
