"""Optimizers by name: the same numbers as torch's and timm's own, and names that cannot work."""

import copy
import sys
from functools import partial

import pytest
import timm.optim
import torch
from torch import nn

from config import load_cfg
from loss import make_loss
from solver import check, make_optimizer
from tests.solver.test_solver import make_net
from utils.errors import UserError
from utils.structures import ModelOutput

SETTINGS = [
    *("SOLVER.BASE_LR", "0.02", "SOLVER.BIAS_LR_FACTOR", "2", "SOLVER.WEIGHT_DECAY", "0.1"),
    *("SOLVER.WEIGHT_DECAY_BIAS", "0.2"),
]
ALL = timm.optim.list_optimizers(exclude_filters=["bnb*", "fused*", "kron*", "adahessian"])


def seeded_net():
    torch.manual_seed(0)
    return make_net()


def make(net, *opts):
    return make_optimizer(load_cfg(opts=[*SETTINGS, *opts]), net, nn.Module())


def train(net, optimizer, steps=3):
    images, labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 1, 0, 1, 0])
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(net.classifier(net.base(images)), labels).backward()
        optimizer.step()
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def by_hand(net):
    weights, biases = [net.base.weight, net.classifier.weight], [net.base.bias]
    return [{"params": weights, "lr": 0.02, "weight_decay": 0.1}, {"params": biases, "lr": 0.04, "weight_decay": 0.2}]


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("opts", "kind", "options"),
    [
        (["SGD", "SOLVER.MOMENTUM", "0.0"], torch.optim.SGD, {"fused": True}),
        (["SGD", "SOLVER.MOMENTUM", "0.9"], torch.optim.SGD, {"momentum": 0.9, "fused": True}),
        (["sgd", "SOLVER.MOMENTUM", "0.9"], torch.optim.SGD, {"momentum": 0.9, "fused": True}),
        (
            ["SGD", "SOLVER.MOMENTUM", "0.9", "SOLVER.NESTEROV", "True"],
            torch.optim.SGD,
            {"momentum": 0.9, "nesterov": True, "fused": True},
        ),
        (["Adam", "SOLVER.MOMENTUM", "0.9"], torch.optim.Adam, {"fused": True}),
        (["AdamW"], torch.optim.AdamW, {"fused": True}),
        (["lamb"], timm.optim.Lamb, {}),
        (["Lion"], timm.optim.Lion, {}),
        (["lars", "SOLVER.MOMENTUM", "0.8"], timm.optim.Lars, {"momentum": 0.8}),
        (["sgdw", "SOLVER.MOMENTUM", "0.8"], timm.optim.SGDW, {"momentum": 0.8, "nesterov": True}),
        (["lambcd"], timm.optim.Lamb, {"lr": 0.02, "decoupled_decay": True, "corrected_weight_decay": True}),
    ],
)
def test_weights_after_three_steps_are_those_of_the_optimizer_made_by_hand(opts, kind, options):
    net, twin = seeded_net(), seeded_net()
    before = copy.deepcopy(net.state_dict())
    optimizer = make(net, "MODEL.DEVICE", "cpu", "SOLVER.OPTIMIZER_NAME", *opts)
    assert type(optimizer) is kind
    found = train(net, optimizer)
    assert_same_bits(found, train(twin, kind(by_hand(twin), **options)))
    assert not torch.equal(found["base.weight"], before["base.weight"])
    assert torch.equal(found["frozen.weight"], before["frozen.weight"])


@pytest.mark.parametrize("name", ALL)
def test_every_optimizer_that_timm_lists_learns_and_resumes_from_its_state(name):
    opts = ["MODEL.DEVICE", "cpu", "SOLVER.OPTIMIZER_NAME", name, "SOLVER.MOMENTUM", "0.9"]
    net = seeded_net()
    optimizer = make(net, *opts)
    middle = train(net, optimizer, steps=2)
    again = seeded_net()
    again.load_state_dict(middle)
    optimizer_again = make(again, *opts)
    optimizer_again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    end = train(net, optimizer, steps=2)
    assert_same_bits(train(again, optimizer_again, steps=2), end)
    assert all(value.isfinite().all() for value in end.values())
    assert not torch.equal(end["base.weight"], middle["base.weight"])


def check_opts(*opts):
    check(load_cfg(opts=list(opts)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "Adamm",
            r"Adamm: there is no such optimizer; take SGD.*; did you mean adam or \w+ or \w+\?",
        ),
        ("xyz", "SOLVER.OPTIMIZER_NAME xyz: there is no such optimizer; take SGD, Adam, AdamW, or one of timm's"),
        ("foo_adam", "SOLVER.OPTIMIZER_NAME foo_adam: there is no such optimizer"),
        ("adahessian", "adahessian: it needs second derivatives, which the training loop does not compute"),
        (
            "bnbadamw8bit",
            "bnbadamw8bit: it needs bitsandbytes, which .*did you mean nadam",
        ),
        ("fusedlamb", "fusedlamb: it needs apex, which requirements.txt does not have; .*did you mean lamb"),
        ("kronw", "kronw: it needs opt_einsum, which requirements.txt does not have"),
        (
            "lookahead_adamw",
            "lookahead_adamw: the training loop does not .*EMA_DECAY .*did you mean adamw",
        ),
    ],
)
def test_names_that_cannot_work(name, message):
    for call in (check_opts, partial(make, seeded_net())):
        with pytest.raises(UserError, match=message):
            call("SOLVER.OPTIMIZER_NAME", name)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (
            ["SOLVER.NESTEROV", "True"],
            "SOLVER.MOMENTUM 0.0: SGD uses Nesterov momentum and needs one above 0; .* or SOLVER.NESTEROV to False",
        ),
        (
            ["SOLVER.OPTIMIZER_NAME", "sgdw"],
            "sgdw uses Nesterov momentum and needs one above 0; .* to 0.9$",
        ),
        (["SOLVER.OPTIMIZER_NAME", "Adam", "SOLVER.NESTEROV", "True"], "NESTEROV True: it is for SGD, not for Adam; "),
        (["SOLVER.OPTIMIZER_NAME", "lamb", "SOLVER.NESTEROV", "True", "SOLVER.MOMENTUM", "0.9"], "not for lamb"),
    ],
)
def test_momentum_that_does_not_go_together(opts, message):
    for call in (check_opts, partial(make, seeded_net())):
        with pytest.raises(UserError, match=message):
            call(*opts)


def test_an_optimizer_without_its_momentum_is_logged(caplog):
    make(seeded_net(), "SOLVER.OPTIMIZER_NAME", "lars")
    assert caplog.messages == ["SOLVER.MOMENTUM 0.0: lars usually has one, e.g. 0.9"]
    caplog.clear()
    for opts in (["lars", "SOLVER.MOMENTUM", "0.9"], ["lamb"], ["SGD"]):
        make(seeded_net(), "SOLVER.OPTIMIZER_NAME", *opts)
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
class TestFused:
    def make_for_gpu(self, net, name, monkeypatch):
        """As on a machine with a GPU; the parameters are not there yet."""
        with monkeypatch.context() as patched:
            patched.setattr(torch.cuda, "is_available", lambda: True)
            return make(net, "MODEL.DEVICE", "cuda", "SOLVER.OPTIMIZER_NAME", name, "SOLVER.MOMENTUM", "0.9")

    def make_for_cpu(self, net, name):
        return make(net, "MODEL.DEVICE", "cpu", "SOLVER.OPTIMIZER_NAME", name, "SOLVER.MOMENTUM", "0.9")

    def make_unfused(self, net, name, monkeypatch):
        """As versions before fused updates on a CPU made it."""
        with monkeypatch.context() as patched:
            patched.setattr(sys.modules[make_optimizer.__module__], "FUSED_DEVICES", ("cuda",))
            return self.make_for_cpu(net, name)

    def test_for_gpu_and_cpu(self, name, monkeypatch):
        net, twin = seeded_net(), seeded_net()
        fused = [self.make_for_gpu(net, name, monkeypatch), self.make_for_cpu(twin, name)]
        assert [group["fused"] for optimizer in fused for group in optimizer.param_groups] == [True] * 4
        third = seeded_net()
        found, expected = train(twin, fused[1]), train(third, self.make_unfused(third, name, monkeypatch))
        assert all(torch.allclose(found[key], expected[key], atol=1e-6) for key in expected)

    def test_continues_from_a_state_without(self, name, monkeypatch):
        """A run of an earlier version resumes; the other way round works, too."""
        net, unfused = seeded_net(), self.make_unfused(seeded_net(), name, monkeypatch)
        fused = self.make_for_cpu(net, name)
        train(net, fused)
        twin = seeded_net()
        before = self.make_unfused(twin, name, monkeypatch)
        middle = train(twin, before)
        there = copy.deepcopy(before.state_dict())
        net.load_state_dict(middle)
        fused.load_state_dict(there)
        assert [group["fused"] for group in fused.param_groups] == [True, True]
        assert [group["fused"] for group in there["param_groups"]] == [None, None]  # what was given is not changed
        found, expected = train(net, fused), train(twin, before)
        assert all(torch.allclose(found[key], expected[key], atol=1e-6) for key in expected)
        unfused.load_state_dict(fused.state_dict())
        assert [group["fused"] for group in unfused.param_groups] == [None, None]

    def test_a_state_of_another_device_is_exact(self, name, monkeypatch):
        net = seeded_net()
        for_gpu, for_cpu = self.make_for_gpu(seeded_net(), name, monkeypatch), self.make_for_cpu(net, name)
        middle = train(net, for_cpu)
        back = copy.deepcopy(for_cpu.state_dict())
        for_gpu.load_state_dict(copy.deepcopy(back))
        for_cpu.load_state_dict(for_gpu.state_dict())
        twin = seeded_net()
        twin.load_state_dict(middle)
        optimizer = self.make_for_cpu(twin, name)
        optimizer.load_state_dict(back)
        assert_same_bits(train(net, for_cpu), train(twin, optimizer))

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_on_a_gpu_it_learns_what_the_cpu_learns(self, name):
        net, twin = seeded_net(), seeded_net()
        optimizer = make(net, "MODEL.DEVICE", "cuda", "SOLVER.OPTIMIZER_NAME", name, "SOLVER.MOMENTUM", "0.9")
        net.cuda()
        images = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)).cuda()
        labels = torch.tensor([0, 1, 1, 0, 1, 0]).cuda()
        for _ in range(3):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(net.classifier(net.base(images)), labels).backward()
            optimizer.step()
        expected = train(twin, self.make_for_cpu(twin, name))
        assert all(torch.allclose(net.state_dict()[key].cpu(), expected[key], atol=1e-5) for key in expected)


def center_moves(name, weight, steps=3):
    """How far the centers of three identities go, of which the last has no images."""
    cfg = load_cfg(
        opts=[
            *("CFAT.STAGE", "clean", "MODEL.IF_WITH_CENTER", "True", "SOLVER.CENTER_LR", "0.01"),
            *("MODEL.DEVICE", "cpu", "MODEL.ID_LOSS_WEIGHT", "0", "MODEL.TRIPLET_LOSS_WEIGHT", "0"),
            *("SOLVER.CENTER_LOSS_WEIGHT", str(weight), "SOLVER.OPTIMIZER_NAME", name, "SOLVER.MOMENTUM", "0.9"),
        ]
    )
    torch.manual_seed(0)
    loss_fn = make_loss(cfg, num_classes=3, feat_dim=4)
    optimizer = make_optimizer(cfg, make_net(), loss_fn)
    ((_, centers),) = loss_fn.named_parameters()
    before, embeddings = centers.detach().clone(), torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        loss = loss_fn(ModelOutput(embeddings, embeddings, None), {"pids": torch.tensor([0, 0, 0, 1, 1])})["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return centers.detach() - before


@pytest.mark.parametrize(
    "name", ["SGD", "momentum", "nesterov", "sgdw", "sgdp", "lars", "nlars", "AdamW", "adan", "muon"]
)
def test_centers_move_whatever_the_weight_of_their_loss(name):
    light, heavy = center_moves(name, 0.0005), center_moves(name, 0.1)
    torch.testing.assert_close(light, heavy, rtol=1e-2, atol=1e-4)
    assert light[:2].abs().max() > 1e-3
    assert light[2].abs().max() < 1e-6
