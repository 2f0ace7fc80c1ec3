"""Checks of values: one key's type and rule, and what several keys must be together."""

import re
from collections.abc import Mapping
from typing import Any

from config.schema import Key
from config.values import coerce, describe_type, number_hint
from utils.errors import UserError, did_you_mean

MAX_SHOWN = 200  # characters of a value, in messages


def check_value(name: str, value: Any, key: Key) -> Any:
    """Converts a value to the key's type and checks it against the key's rule.

    Args:
        name: dotted name of the key.
        value: what a YAML file or the command line gave.
        key: its entry in config/defaults.py.

    Returns:
        The converted value.

    Raises:
        UserError: what was found and what was expected, without the name of the key.
    """
    rule, found = key.rule, f"found {_shorten(repr(value))}"
    try:
        converted = coerce(name, value, key)
    except TypeError as error:
        expected = describe_type(key)
        choices = f": {rule.expected}" if rule.choices else ""
        hint = (
            number_hint(value, is_list=isinstance(key.default, list))
            if expected.endswith(("integer", "number", "integers", "numbers"))
            else ""
        )
        raise UserError(f"{found}, expected {expected}{choices}{hint}") from error
    except UserError as error:
        raise UserError(re.sub(rf"^({re.escape(name)}|value): (line \d+: )?", "", str(error))) from error
    if not rule.accepts(converted):
        raise UserError(f"{found}, expected {rule.expected}{_suggest_choice(converted, rule.choices)}")
    return converted


def check_together(values: Mapping[str, Any]) -> list[str]:
    """Checks that need more than one key.

    Args:
        values: the merged configuration, by dotted key.

    Returns:
        One text per error.
    """
    errors = []
    batch, instances = values["SOLVER.IMS_PER_BATCH"], values["DATALOADER.NUM_INSTANCE"]
    if values["DATALOADER.SAMPLER"] == "softmax_triplet" and batch % instances:
        errors.append(
            f"SOLVER.IMS_PER_BATCH: found {batch}, expected a multiple of DATALOADER.NUM_INSTANCE ({instances}): "
            f"sampler softmax_triplet fills a batch with whole identities; {max(1, batch // instances) * instances} "
            "is near"
        )
    if values["DATALOADER.SAMPLER"] == "softmax_triplet" and instances == 1:
        errors.append(
            "DATALOADER.NUM_INSTANCE: found 1, expected at least 2: the triplet loss compares an image with another "
            "of the same identity (DATALOADER.SAMPLER softmax works with 1)"
        )
    if values["DATASETS.ON_BAD_IMAGE"] == "skip" and not values["DATASETS.CHECK_IMAGES"]:
        errors.append(
            "DATASETS.ON_BAD_IMAGE: found skip, but DATASETS.CHECK_IMAGES False looks for no damaged images; "
            "expected CHECK_IMAGES True, or ON_BAD_IMAGE error"
        )
    if values["SOLVER.EVAL_ON"] == "validation" and not values["DATASETS.VALIDATION_SHARE"]:
        errors.append(
            "SOLVER.EVAL_ON: found validation, but DATASETS.VALIDATION_SHARE 0 holds no identities back; set it, e.g. "
            "0.2"
        )
    steps = values["SOLVER.STEPS"]
    if sorted(steps) != steps:
        errors.append(f"SOLVER.STEPS: found {steps}, expected rising epochs: {sorted(steps)}")
    return errors


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _suggest_choice(value: Any, choices: tuple[str, ...]) -> str:
    """ "; did you mean NAME?" for the first name in the value that is none of the choices."""
    names = value if isinstance(value, list) else [value]
    wrong = next((name for name in names if isinstance(name, str) and name not in choices), "")
    return did_you_mean(wrong, choices) if wrong else ""
