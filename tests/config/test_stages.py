"""One configuration per CFAT stage."""

import pytest

from config import ConfigError, load_cfg, stage_cfg, stages_to_run
from utils.stages import own_key


def weights(cfg) -> list[str]:
    return [cfg.CFAT[name].WEIGHT for name in ("CLEAN", "CORRUPTED", "BRIDGE", "ALIGN")]


def test_all_stages_run_unless_replaced_by_a_file():
    assert stages_to_run(load_cfg()) == ["clean", "corrupted", "bridge", "align"]
    assert stages_to_run(load_cfg(None, ["CFAT.CLEAN.WEIGHT", "t.pth"])) == ["corrupted", "bridge", "align"]
    assert stages_to_run(load_cfg(None, ["CFAT.STAGES", "[clean]", "CFAT.CLEAN.WEIGHT", "t.pth"])) == []


def test_stages_whose_inputs_are_missing_load():
    assert stages_to_run(load_cfg(None, ["CFAT.STAGES", "[align]"])) == ["align"]


def test_earlier_stages_get_the_checkpoints_of_the_output_directory():
    cfg = load_cfg(None, ["OUTPUT_DIR", "out", "CFAT.CORRUPTED.WEIGHT", "start.pth"])
    assert weights(stage_cfg(cfg, "clean")) == ["", "start.pth", "", ""]
    assert weights(stage_cfg(cfg, "corrupted")) == ["out/checkpoints/clean.pth", "start.pth", "", ""]
    assert weights(stage_cfg(cfg, "bridge")) == ["out/checkpoints/clean.pth", "start.pth", "", ""]
    assert weights(stage_cfg(cfg, "align")) == [
        "out/checkpoints/clean.pth",
        "start.pth",
        "out/checkpoints/bridge.pth",
        "",
    ]
    assert weights(cfg) == ["", "start.pth", "", ""]


def test_a_stage_with_its_own_schedule():
    cfg = load_cfg(None, ["CFAT.ALIGN.MAX_EPOCHS", "7", "CFAT.BRIDGE.BASE_LR", "0.3"])
    schedules = {
        stage: (stage_cfg(cfg, stage).SOLVER.MAX_EPOCHS, stage_cfg(cfg, stage).SOLVER.BASE_LR)
        for stage in ("clean", "bridge", "align")
    }
    assert schedules == {"clean": (120, 0.05), "bridge": (120, 0.3), "align": (7, 0.05)}


def test_a_stage_configuration_is_a_frozen_clone():
    cfg = load_cfg()
    staged = stage_cfg(cfg, "bridge")
    assert (staged.CFAT.STAGE, cfg.CFAT.STAGE) == ("bridge", "")
    assert staged.is_frozen()
    assert staged.CFAT.CLEAN.is_frozen()
    assert cfg.is_frozen()
    with pytest.raises(AttributeError, match="immutable"):
        staged.SEED = 1


def test_an_unknown_stage():
    with pytest.raises(ConfigError, match="no stage 'fine' of CFAT; expected one of clean, corrupted, bridge, align"):
        stage_cfg(load_cfg(), "fine")


def test_the_key_that_sets_a_stage_is_its_own_one_where_that_wins():
    staged = stage_cfg(load_cfg(None, ["CFAT.ALIGN.MAX_EPOCHS", "7"]), "align")
    keys = ("SOLVER.MAX_EPOCHS", "SOLVER.BASE_LR", "SOLVER.GRAD_CLIP", "MODEL.NAME", "SEED")
    assert [own_key(staged, key) for key in keys] == ["CFAT.ALIGN.MAX_EPOCHS", *keys[1:]]
    assert own_key(stage_cfg(load_cfg(None, ["CFAT.ALIGN.MAX_EPOCHS", "7"]), "bridge"), keys[0]) == keys[0]


def test_a_stage_may_have_its_own_triplets():
    cfg = load_cfg(None, ["CFAT.ALIGN.TRIPLET_ON", "neck", "CFAT.CLEAN.TRIPLET_ON", "class_token"])
    assert [stage_cfg(cfg, name).MODEL.TRIPLET_ON for name in ("clean", "corrupted", "bridge", "align")] == [
        *["class_token"] * 3,
        "neck",
    ]
    whole = load_cfg(None, ["MODEL.TRIPLET_ON", "neck", "CFAT.CLEAN.TRIPLET_ON", "class_token"])
    found = [stage_cfg(whole, name).MODEL.TRIPLET_ON for name in ("clean", "corrupted", "align")]
    assert found == ["class_token", "neck", "neck"]
    key = "MODEL.TRIPLET_ON"
    assert [own_key(stage_cfg(cfg, name), key) for name in ("align", "bridge")] == ["CFAT.ALIGN.TRIPLET_ON", key]
