"""Floor 1: the 20 image corruptions, their severities and families, and the protocols that say who gets which.

Hands out `corrupt(image, name, severity, rng)`, the names `CORRUPTIONS`, `FAMILIES` and `SEVERITIES`, the policies that
training and test pictures draw from, and the test settings. Command: `python -m corruption`.

apply   corrupt, checks, backends      fast, noise, blur, weather, rain, digital   the 20 on compiled kernels
draws   random numbers                 published   the same 20 by imagecorruptions
protocols   who gets which             export, copies, processes   corrupted copies on disk
"""

import utils  # noqa: F401  first, for the environment
from corruption.apply import corrupt
from corruption.names import CORRUPTIONS, FAMILIES, SEVERITIES
from corruption.protocols import (
    PROTOCOLS,
    CorruptionPolicy,
    apply_condition,
    make_corruption_set,
    make_matrix,
    make_protocols,
    make_test_policy,
    make_train_policy,
    test_generator,
)

__all__ = [
    "CORRUPTIONS",
    "FAMILIES",
    "PROTOCOLS",
    "SEVERITIES",
    "CorruptionPolicy",
    "apply_condition",
    "check",
    "corrupt",
    "make_corruption_set",
    "make_matrix",
    "make_protocols",
    "make_test_policy",
    "make_train_policy",
    "test_generator",
]


def check(cfg) -> None:
    """Raises UserError where cfg.CORRUPTION, TEST.PROTOCOLS or TEST.MATRIX cannot be used."""
    make_protocols(cfg), make_matrix(cfg), make_train_policy(cfg), make_test_policy(cfg)
