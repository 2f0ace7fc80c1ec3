"""The cameras and viewpoints of several data sets, numbered through set by set."""

from collections.abc import Iterable
from typing import NamedTuple

from utils.structures import SetNumbers, Sides


class Found(NamedTuple):
    """A data set among several: its numbers, and where its cameras and viewpoints begin."""

    numbers: SetNumbers
    sides: Sides


# Readers of anyone's images: another directory has other cameras.
_OWN = ("folder", "csv")


def find_sides(name: str, sets: Iterable[SetNumbers]) -> Found | None:
    """Finds the data set `name` among several, or the only one with its cameras; None where it is not there.

    market1501, market1501:DIR, market1501_500k and copies of either, market1501-C, have the same cameras.
    """
    first_camera = first_view = 0
    found = {}
    for numbers in sets:
        found[numbers.name] = Found(numbers, Sides(first_camera, first_view))
        first_camera, first_view = first_camera + numbers.num_cameras, first_view + numbers.num_views
    if name in found:
        return found[name]
    alike = [one for other, one in found.items() if _base(other) == _base(name)]
    return alike[0] if len(alike) == 1 else None


def _base(name: str) -> str:
    """The data set whose cameras `name` has: market1501 for market1501_500k-C:DIR; folder:DIR is one of its own."""
    reader = name.partition(":")[0].lower()
    return name if reader in _OWN else reader.partition("-")[0].removesuffix("_500k")
