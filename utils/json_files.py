"""Reading JSON files: an object of bounded size and depth, or one error."""

import json
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files import read_text


def read_json_object(path: str | Path, *, max_bytes: int) -> dict[str, Any]:
    """The object in a JSON file of at most `max_bytes`.

    Raises:
        UserError: as of `files.read_text`, or it is not JSON (or nested too deep, or has a number of thousands of
            digits), or another value than an object.
    """
    try:
        content = json.loads(read_text(path, max_bytes=max_bytes))
    except UserError:
        raise
    except RecursionError as error:
        raise UserError(f"{path}: cannot be read (nested too deep); expected a JSON object") from error
    except ValueError as error:
        raise UserError(f"{path}: cannot be read ({str(error)[:200]}); expected a JSON object") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: cannot be read (a JSON {type(content).__name__}); expected a JSON object")
    return content
