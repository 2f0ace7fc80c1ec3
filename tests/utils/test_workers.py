import os
import signal
import time
from functools import partial

import pytest

from utils.errors import UserError
from utils.workers import CHUNK_SIZE, worker_pool

ITEMS = list(range(5 * CHUNK_SIZE))


def square(number):
    return number**2


def process_and_variable(number):
    return os.getpid(), os.environ.get("SET_BY_INIT")


def set_variable():
    os.environ["SET_BY_INIT"] = "yes"


def fail_at_3(directory, number):
    if number == 3:
        raise ValueError("item 3")
    time.sleep(0.01)
    (directory / str(number)).touch()


def kill_own_process(number):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("num_workers", [1, 3, None])
def test_results_in_the_order_of_the_items(num_workers):
    with worker_pool(num_workers, len(ITEMS)) as pool:
        assert list(pool.map(square, ITEMS)) == [number**2 for number in ITEMS]
        assert list(pool.map(square, ITEMS[:3])) == [0, 1, 4]


def test_no_more_workers_than_the_items_need_and_each_is_initialised(monkeypatch):
    monkeypatch.delenv("SET_BY_INIT", raising=False)
    with worker_pool(8, 2 * CHUNK_SIZE, init=set_variable) as pool:
        found = set(pool.map(process_and_variable, ITEMS))
    assert 1 <= len(found) <= 2
    assert {variable for _, variable in found} == {"yes"}
    assert os.getpid() not in {process for process, _ in found}


def test_one_worker_is_the_calling_process():
    with worker_pool(4, 1) as pool:
        assert [process for process, _ in pool.map(process_and_variable, [0])] == [os.getpid()]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_error_cancels_what_has_not_begun(tmp_path, num_workers):
    items = list(range(100 * CHUNK_SIZE))
    with pytest.raises(ValueError, match="item 3"), worker_pool(num_workers, len(items)) as pool:
        list(pool.map(partial(fail_at_3, tmp_path), items))
    assert 3 <= len(list(tmp_path.iterdir())) < len(items) // 2


def test_a_killed_worker_is_an_error_with_advice():
    message = "a worker process was killed, .*; use fewer"
    with pytest.raises(UserError, match=message), worker_pool(2, len(ITEMS), advice="use fewer") as pool:
        list(pool.map(kill_own_process, ITEMS))
