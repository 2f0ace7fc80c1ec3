"""Two processes over gloo train like one with the whole batch."""

import os
import socket
import subprocess
import sys
import time

import pytest
import torch

from datasets.synthetic.generate import SyntheticSettings, synthesize
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
]
CHECKPOINTED = {case: f"{case} SOLVER.GRAD_CHECKPOINT True" for case in (CASES[1], CASES[5])}  # with drop path
CASES += CHECKPOINTED.values()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(number: int, *arguments: str, script=SCRIPT) -> list[subprocess.Popen]:
    """Processes as torchrun starts them, without its seconds of start-up."""
    common = {"WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, str(script), *arguments]
    started = []
    for rank in range(number):
        environment = {**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(command, cwd=REPOSITORY, env=environment, **streams))
    return started


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
        outputs = [process.communicate(timeout=240)[0] for process in start(number, str(out), str(root), *CASES)]
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


@pytest.mark.parametrize("case", CHECKPOINTED)
def test_parts_of_a_batch_give_the_weights_of_the_whole(results, case):
    expected, found = results[1][case], results[1][CHECKPOINTED[case]]
    for alone, parts in zip(expected["losses"], found["losses"], strict=True):
        assert parts == pytest.approx(alone, abs=1e-5, rel=1e-5)
    for part in ("model", "loss"):
        for name, weights in expected[part].items():
            torch.testing.assert_close(found[part][name], weights, atol=1e-5, rtol=0)


def test_local_losses_are_others(root, results):
    case = "align SOLVER.GLOBAL_LOSS False"
    out = root / "local.pth"
    outputs = [process.communicate(timeout=120)[0] for process in start(2, str(out), str(root), case)]
    assert out.exists(), outputs
    local, whole = torch.load(out, weights_only=True)[case]["losses"][0], results[1]["align"]["losses"][0]
    assert local["coarse_loss"] != pytest.approx(whole["coarse_loss"], abs=1e-3)


def test_a_failing_process_ends_all_within_a_minute(root):
    started = time.monotonic()
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port()),
        str(FAILING), "error",
    ]  # fmt: skip
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=90, check=False)
    assert ended.returncode != 0
    assert "picture broken.jpg" in ended.stderr
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("error", "process 1 ended with an error: picture broken.jpg: broken; its log is log_rank1.txt in OUTPUT_DIR"),
        ("kill", "process 1 was killed, perhaps for lack of memory"),
    ],
)
def test_those_that_are_left_say_which_process_ended(how, told):
    started = time.monotonic()
    processes = start(2, how, script=FAILING)
    text, _ = [process.communicate(timeout=60)[0] for process in processes]
    assert time.monotonic() - started < 60
    assert processes[0].returncode == 1, text
    assert text.strip().splitlines()[-1].startswith(f"error: {told}"), text
    assert "Traceback" not in text
