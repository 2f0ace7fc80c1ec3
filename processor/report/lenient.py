"""Reading files of a run field by field: what its schema refuses is left out and named, the rest is read.

One odd value must not cost a whole page. Where a value is refused, the nearest field around it goes that the schema can
do without: an entry of a dict, a key with a default. A list goes as a whole, as its other values would move up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

from utils.errors import UserError
from utils.escaping import printable

ABSENT: Any = None  # default of a field that a file may lack, but that is no null where it is there
MAX_PLACE, MAX_VALUE, MAX_REASON = 120, 60, 300  # letters in a message
STRICT = ConfigDict(extra="ignore", strict=True)

T = TypeVar("T")
Place = tuple[int | str, ...]

Fraction = Annotated[float, Field(ge=0, le=1 + 1e-6, allow_inf_nan=False)]  # a mean of ones may round up
Number = Annotated[float, Field(ge=-1e30, le=1e30)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Text = Annotated[str, Field(max_length=10_000)]
Name = Annotated[str, Field(max_length=4096)]  # as of a path
Word = Annotated[str, Field(max_length=100)]


@dataclass(frozen=True)
class LeftOut:
    """A field of a file of the run that cannot be read.

    Attributes:
        file: its name.
        key: where in the file, dotted; "" for the whole file.
        reason: what was found and what was expected.
        advice: what to do.
    """

    file: str
    key: str
    reason: str
    advice: str

    def __str__(self) -> str:
        where = f"{self.file}, {self.key}" if self.key else self.file
        return f"{where}: {self.reason}; {self.advice}"


def _as_one(value: Any, validate: Callable[[Any], Any]) -> Any:
    try:
        return validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise PydanticCustomError("whole", "{reason}", {"reason": _inside(first["loc"], _describe(first))}) from error


# For a field that goes as a whole: `Annotated[T, WHOLE]`. Means over the rest of it would be others.
WHOLE = WrapValidator(_as_one)


def read_leniently(schema: TypeAdapter[T], content: Any, file: str, advice: str) -> tuple[T, list[LeftOut]]:
    """What a schema accepts of a JSON value.

    Args:
        schema: of the whole.
        content: the value; what is left out is removed from it.
        file: name of the file, for messages.
        advice: what to do about a field that is left out.

    Returns:
        The validated value, and what was left out.

    Raises:
        UserError: nothing that can be left out makes the rest valid.
    """
    left_out: dict[Place, tuple[Place, str]] = {}  # what was removed -> where the error in it is, and which
    while True:
        try:
            value = schema.validate_python(content)
        except RecursionError as error:
            raise UserError(f"{file}: cannot be read (nested too deep); {advice}") from error
        except ValidationError as error:
            errors = error.errors(include_url=False)
        else:
            found = [
                LeftOut(file, _dotted(place), _inside(cause[len(place) :], reason), advice)
                for place, (cause, reason) in left_out.items()
            ]
            return value, found
        places: dict[Place, tuple[Place, str]] = {}
        for one in errors:
            places.setdefault(_removable(content, one["loc"]), (one["loc"], _describe(one)))
        if () in places:
            missing = places[()]
            said = left_out.get(missing[0], missing)  # why a field is missing, where it was there
            raise UserError(f"{file}: cannot be read ({_inside(*said)}); {advice}")
        for place, found_here in places.items():
            if any(place[:length] in places for length in range(1, len(place))):
                continue
            _remove(content, place)
            inside = [other for other in left_out if other[: len(place)] == place]
            first = [left_out.pop(other) for other in inside][:1]  # removed before: why the rest of it goes, too
            left_out[place] = first[0] if first else found_here


def _removable(content: Any, location: Place) -> Place:
    """Place of the field around an error that can be removed; () is the whole."""
    place: list[int | str] = []
    for part in location:
        if not (isinstance(part, int) if isinstance(content, list) else isinstance(content, dict) and part in content):
            break  # a key that is missing, or a word of pydantic
        content = content[part]
        place.append(part)
    while place and isinstance(place[-1], int):
        place.pop()
    return tuple(place)


def _remove(content: Any, place: Place) -> None:
    *outer, last = place
    for part in outer:
        content = content[part]
    del content[last]


def _inside(place: Place, reason: str) -> str:
    return f"{_dotted(place)}: {reason}" if place else reason


def _dotted(place: Place) -> str:
    text = printable(".".join(map(str, place)))
    return text if len(text) <= MAX_PLACE else f"{text[:MAX_PLACE]}..."


def _describe(error: Any) -> str:
    """An error of pydantic in words, with the value."""
    found = error["input"]
    if error["type"] == "model_type":
        error = {**error, "msg": "Input should be an object"}
    is_value = error["type"] not in ("missing", "whole", "value_error") and not isinstance(found, dict | list)
    text = "null" if found is None else repr(found)
    shown = text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}..."
    return printable(error["msg"].removeprefix("Value error, ") + (f", found {shown}" if is_value else ""))[:MAX_REASON]
