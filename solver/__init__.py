"""Floor 1: how weights learn. make_optimizer groups parameters, make_scheduler sets the rate over the epochs."""

import utils  # noqa: F401  first, for the environment
from solver.make_optimizer import make_optimizer
from solver.make_scheduler import make_scheduler

__all__ = ["check", "make_optimizer", "make_scheduler"]


def check(cfg) -> None:
    """Nothing to check before the model is built."""
