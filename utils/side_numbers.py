"""The cameras and viewpoints of several data sets, numbered through set by set."""

from collections.abc import Iterable
from typing import NamedTuple

from utils.structures import SetNumbers, Sides


class Found(NamedTuple):
    """A data set among several: its numbers, and where its cameras and viewpoints begin."""

    numbers: SetNumbers
    sides: Sides


def find_sides(name: str, sets: Iterable[SetNumbers]) -> Found | None:
    """Finds the data set `name` among several, or the one that it is a corrupted copy of; None where it is not there.

    A copy, market1501-C, has the cameras of its original, market1501, wherever that lies.
    """
    first_camera = first_view = 0
    found = {}
    for numbers in sets:
        found[numbers.name] = Found(numbers, Sides(first_camera, first_view))
        first_camera, first_view = first_camera + numbers.num_cameras, first_view + numbers.num_views
    if name in found:
        return found[name]
    original, hyphen, _ = name.partition(":")[0].partition("-")
    copied = [one for other, one in found.items() if other.partition(":")[0] == original]
    return copied[0] if hyphen and len(copied) == 1 else None
