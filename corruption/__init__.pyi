from .apply import corrupt
from .names import CORRUPTIONS, FAMILIES, SEVERITIES
from .protocols import (
    PROTOCOLS,
    CorruptionPolicy,
    apply_condition,
    check,
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
