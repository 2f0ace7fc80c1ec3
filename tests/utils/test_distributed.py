"""What the environment says about other processes, and when it counts."""

import pytest

from utils.distributed import Place, is_main, local_rank, once_per_node, process_group, read_place, world_size
from utils.errors import UserError

JOINED = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"RANK": "1"},
        {"RANK": "", "WORLD_SIZE": ""},
        {"WORLD_SIZE": "1", "RANK": "1"},
        {"WORLD_SIZE": " 1 "},
        {"LOCAL_RANK": "3"},
        {"LOCAL_RANK": "x", "RANK": "-1"},
        {"SLURM_PROCID": "1", "SLURM_NTASKS": "4"},
        {"RANK": "two", "LOCAL_WORLD_SIZE": "8"},
    ],
)
def test_one_process_whatever_is_left_in_the_environment(environment, monkeypatch):
    assert read_place(environment) == Place()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_main()
    with process_group():
        assert (is_main(), world_size(), local_rank()) == (True, 1, 0)
        assert once_per_node(lambda: 7) == 7


def test_several_processes():
    environment = {**JOINED, "WORLD_SIZE": "4", "RANK": "3"}
    assert read_place({**environment, "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}) == Place(3, 4, 1, 2)
    assert read_place(environment) == Place(3, 4, 0, 4)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, of several processes, but RANK, MASTER_ADDR, MASTER_PORT is not set"),
        ({"WORLD_SIZE": "2", **JOINED, "RANK": " "}, "but RANK is not set"),
        *(({"WORLD_SIZE": text}, "WORLD_SIZE in the environment is") for text in ("two", "0", "-1", "1.5", "²")),
        ({"WORLD_SIZE": "9" * 5000}, "WORLD_SIZE in the environment is '999"),
        ({"WORLD_SIZE": "2", **JOINED, "RANK": "2"}, "RANK in the environment is '2'; expected a number, 0 to 1"),
        ({"WORLD_SIZE": "2", **JOINED, "RANK": "-1"}, "RANK in the environment is '-1'"),
        ({"WORLD_SIZE": "2", **JOINED, "RANK": "1", "LOCAL_RANK": "x"}, "LOCAL_RANK in the environment is 'x'"),
        ({"WORLD_SIZE": "2", **JOINED, "RANK": "1", "LOCAL_RANK": "2"}, "expected a number, 0 to 1"),
        ({"WORLD_SIZE": "2", **JOINED, "RANK": "1", "MASTER_PORT": "http"}, "MASTER_PORT in the environment is 'http'"),
        ({"WORLD_SIZE": "2", **JOINED, "RANK": "1", "MASTER_PORT": "70000"}, "expected a number, 1 to 65535"),
    ],
)
def test_an_environment_that_makes_no_sense_is_an_error(environment, message):
    with pytest.raises(UserError) as raised:
        read_place(environment)
    assert message in str(raised.value)
    assert len(str(raised.value)) < 400
