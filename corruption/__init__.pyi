from .apply import corrupt
from .names import CORRUPTIONS, FAMILIES, FURTHER_FAMILIES, SEVERITIES, SURVEILLANCE, UNSEEN
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
    sample_condition,
    test_generator,
    trained_types,
)

__all__ = [
    "CORRUPTIONS",
    "FAMILIES",
    "FURTHER_FAMILIES",
    "PROTOCOLS",
    "SEVERITIES",
    "SURVEILLANCE",
    "UNSEEN",
    "CorruptionPolicy",
    "apply_condition",
    "check",
    "corrupt",
    "make_corruption_set",
    "make_matrix",
    "make_protocols",
    "make_test_policy",
    "make_train_policy",
    "sample_condition",
    "test_generator",
    "trained_types",
]
