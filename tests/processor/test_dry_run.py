import logging

import pytest
import torch

from processor import do_dry_run
from tests.processor.small_run import CPU, build, make_cfg, make_data
from utils.errors import UserError


@pytest.mark.parametrize("stage", ["clean", "corrupted", "bridge", "align"])
def test_the_plan_and_two_batches_of_every_stage(tmp_path, caplog, stage):
    caplog.set_level(logging.INFO)
    data, requests = make_data()
    cfg = make_cfg(tmp_path / "out", "CFAT.STAGE", stage, "SOLVER.IMS_PER_BATCH", "8")
    model, *rest = build(cfg, data)
    count = sum(parameter.numel() for parameter in model.parameters())
    do_dry_run(cfg, data, model, *rest, device=CPU)
    assert f"stage {stage}: 3 epochs of 2 steps of 8 images, {count / 1e6:.1f} million parameters" in caplog.text
    assert f"stage {stage}: training batch 2 of 6 images: loss" in caplog.text
    assert "GiB of memory" in caplog.text
    assert [text for text in caplog.text.splitlines() if "testing gallery, random: features" in text]
    assert {(split, corruption) for split, corruption, _ in requests} == {
        (split, corruption) for split in ("query", "gallery") for corruption in ("clean", "random")
    }
    assert not (tmp_path / "out").exists()


def test_what_would_end_the_run_ends_the_dry_run(tmp_path):
    data, _ = make_data()
    cfg = make_cfg(tmp_path / "out")
    model, *rest = build(cfg, data)
    model.base.norm.weight.data.fill_(torch.inf)
    with pytest.raises(UserError, match="feature is not finite"):
        do_dry_run(cfg, data, model, *rest, device=CPU)
