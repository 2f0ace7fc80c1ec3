"""Two processes over gloo train like one with the whole batch."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from datasets.synthetic.generate import SyntheticSettings, synthesize
from tests import commands
from tests.helpers import REPOSITORY

SCRIPT = REPOSITORY / "tests" / "processor" / "few_steps.py"
FAILING = REPOSITORY / "tests" / "processor" / "fail_on_rank_1.py"
CASES = [
    "clean",
    "clean MODEL.JPM True MODEL.IF_WITH_CENTER True",
    "corrupted INPUT.SELF_ID True MODEL.METRIC_LOSS_TYPE wrtriplet",
    "bridge CFAT.FINE.NOISE 0.1",
    "align",
    "align CFAT.STUDENT_VIEWS both CFAT.FINE.BRIDGE_T image CFAT.COSINE.PATCH_WEIGHT 0.5 SOLVER.GRAD_CLIP 1.0",
    "align DATALOADER.SAMPLER softmax",
    "align CFAT.FINE.IDENTITY_WEIGHT 0.0 CFAT.FINE.KL_WEIGHT 0.0 CFAT.FINE.RECONSTRUCTION_WEIGHT 0.0 "
    "CFAT.COARSE.WEIGHT 0.0 CFAT.LOGITS.WEIGHT 1.0 CFAT.TOKENS.WEIGHT 1.0 CFAT.TEACHER_DECAY 0.9",
    "align MODEL.PART_TOKENS True MODEL.SIE_CAMERA False",
    "corrupted MODEL.POOLING gem MODEL.REDUCE_FEAT_DIM True MODEL.FEAT_DIM 64",
    "corrupted INPUT.SELF_ID True MODEL.NAME timm MODEL.TRANSFORMER_TYPE test_vit SOLVER.GRAD_CHECKPOINT True",
    # no loss trains the classifier; JPM's parts; any head
    "clean MODEL.ID_LOSS_WEIGHT 0.0",
    "align MODEL.JPM True MODEL.ID_LOSS_WEIGHT 0.0 MODEL.TRIPLET_LOSS_WEIGHT 0.0",
    "align MODEL.ID_LOSS_WEIGHT 0.0 MODEL.TRIPLET_LOSS_WEIGHT 0.0 CFAT.FINE.IDENTITY_WEIGHT 0.0",
]
CHECKPOINTED = {case: f"{case} SOLVER.GRAD_CHECKPOINT True" for case in (CASES[1], CASES[5])}  # with drop path
CASES += CHECKPOINTED.values()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_processes(directory: Path, number: int, *arguments, script=SCRIPT) -> list[tuple[int, str]]:
    """Runs processes as torchrun starts them, without its start-up time; their exit statuses and outputs."""
    common = {"WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    logs = [directory / f"rank{rank}.{time.monotonic_ns()}.log" for rank in range(number)]
    started = []
    for rank, log in enumerate(logs):
        environment = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        started.append(commands.Command(script, *arguments, stdout=log, stderr=log, environment=environment))
    statuses = [process.wait() for process in started]
    return [(status, log.read_text()) for status, log in zip(statuses, logs, strict=True)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    synthesize(root / "market1501", SyntheticSettings(num_identities=16, num_cameras=3, images_per_camera=2), workers=1)
    return root


@pytest.fixture(scope="module")
def results(root):
    found = {}
    for number in (1, 2):
        out = root / f"{number}.pth"
        outputs = run_processes(root, number, out, root, *CASES)
        assert out.exists(), outputs
        found[number] = torch.load(out, weights_only=True)
    return found


@pytest.mark.parametrize("case", CASES)
def test_losses_and_weights_of_two_processes_are_those_of_one(results, case):
    one, two = results[1][case], results[2][case]
    for alone, shared in zip(one["losses"], two["losses"], strict=True):
        assert shared == pytest.approx(alone, abs=1e-5, rel=1e-5)
    for part in ("model", "loss"):
        for name, weights in one[part].items():
            torch.testing.assert_close(two[part][name], weights, atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_few_collectives_in_a_step(results, case):
    """One gathers identities and one each forward's embeddings and tokens; gradients are reduced in two buckets, one in
    stage bridge."""
    forwards = 2 if case.startswith(("bridge", "align")) else 1
    reduced = 1 if case.startswith("bridge") else 2
    assert results[2][case]["collectives"] == {"c10d::allgather_": 1 + forwards, "c10d::allreduce_": reduced}
    assert results[1][case]["collectives"] == {}


@pytest.mark.parametrize("case", CHECKPOINTED)
def test_gradient_checkpointing_changes_no_weight(results, case):
    """Not by a bit, in one process and under DistributedDataParallel."""
    for alone_or_two in results.values():
        expected, found = alone_or_two[case], alone_or_two[CHECKPOINTED[case]]
        assert found["losses"] == expected["losses"]
        for part in ("model", "loss"):
            assert all(torch.equal(found[part][name], weights) for name, weights in expected[part].items())


def test_local_losses_differ(root, results):
    case = "align SOLVER.GLOBAL_LOSS False"
    out = root / "local.pth"
    outputs = run_processes(root, 2, out, root, case)
    assert out.exists(), outputs
    found = torch.load(out, weights_only=True)[case]
    assert found["collectives"].keys() == {"c10d::allreduce_", "c10d::broadcast_"}  # running statistics of rank 0
    local, whole = found["losses"][0], results[1]["align"]["losses"][0]
    assert local["coarse_loss"] != pytest.approx(whole["coarse_loss"], abs=1e-3)


def test_processes_with_running_statistics_of_their_own_evaluate_as_one(root, tmp_path):
    """On CPUs, BatchNorm layers of the backbone see a process's own images; the checkpoint has those of rank 0."""
    options = [
        *("DATASETS.ROOT_DIR", root, "DATASETS.CHECK_COUNTS", "False", "DATALOADER.NUM_WORKERS", "0"),
        *("INPUT.SIZE_TRAIN", "[32, 32]", "INPUT.SIZE_TEST", "[32, 32]", "MODEL.DEVICE", "cpu"),
        *("MODEL.TRANSFORMER_TYPE", "vit_tiny_patch16_128_TransReID", "MODEL.STEM_CONV", "True"),
        *("TEST.PROTOCOLS", "[clean]", "TEST.REPORT", "False", "TEST.FEATURE", "neck"),
    ]
    training = [
        *("MODEL.PRETRAIN_PATH", "", "SOLVER.IMS_PER_BATCH", "8", "DATALOADER.NUM_INSTANCE", "2"),
        *("CFAT.STAGES", "[clean]", "SOLVER.MAX_EPOCHS", "2", "SOLVER.EVAL_PERIOD", "2", "SOLVER.BASE_LR", "0.1"),
    ]
    options = [str(option) for option in options]
    outputs = run_processes(
        tmp_path, 2, *options, *training, "OUTPUT_DIR", str(tmp_path), script=REPOSITORY / "train.py"
    )
    assert [status for status, _ in outputs] == [0, 0], outputs
    (evaluated,) = json.loads((tmp_path / "history.json").read_text())["clean"]["evaluations"]
    best = ["TEST.WEIGHT", str(tmp_path / "checkpoints/clean_best.pth"), "OUTPUT_DIR", str(tmp_path / "alone")]
    assert commands.run("test.py", *options, *best).returncode == 0
    alone = json.loads((tmp_path / "alone/results.json").read_text())["protocols"]["clean"]["mAP"]["mean"]
    assert evaluated["clean"] == pytest.approx(alone, abs=1e-6)


def test_a_failing_process_ends_all_within_a_minute(root):
    started = time.monotonic()
    options = ["--nproc_per_node", "2", "--master_port", str(free_port())]
    command = [sys.executable, "-m", "torch.distributed.run", *options, str(FAILING), "error"]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=90, check=False)
    assert ended.returncode != 0
    assert "image broken.jpg" in ended.stderr
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("error", "process 1 ended with an error: image broken.jpg: damaged; its log is log_rank1.txt in OUTPUT_DIR"),
        ("kill", "process 1 was killed, perhaps for lack of memory"),
    ],
)
def test_the_remaining_processes_say_which_one_ended(tmp_path, how, message):
    started = time.monotonic()
    (status, text), _ = run_processes(tmp_path, 2, how, script=FAILING)
    assert time.monotonic() - started < 60
    assert status == 1, text
    assert text.strip().splitlines()[-1].startswith(f"error: {message}"), text
    assert "Traceback" not in text
