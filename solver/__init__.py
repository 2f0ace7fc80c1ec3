"""Optimizers and learning rate schedules.

make_optimizer   torch's or timm's optimizer by name, over parameter groups (solver.groups)
make_scheduler   timm's schedule of the learning rate over the epochs
check            checks a stage's configuration without building anything
"""

import lazy_loader

import utils  # noqa: F401  first, for the environment

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
