"""Errors of single files: collected while a data set is read, then raised, or logged and the files left out."""

import logging
from collections.abc import Collection

from utils.errors import UserError

logger = logging.getLogger(__name__)

SHOWN = 5  # errors that a log line quotes


class FileErrors:
    """Collects the errors of single files while a data set is read; the files are left out of it.

    Args:
        damaged: paths of images that are known to be damaged; readers that sample a split leave them out first.

    Attributes:
        messages: one text per error: which file, what was found, what was expected, what to do.
    """

    def __init__(self, damaged: Collection[str] = ()) -> None:
        self.messages: list[str] = []
        self.damaged = damaged

    def add(self, message: str) -> None:
        self.messages.append(message)

    def raise_if_errors(self, on_bad_image: str) -> None:
        """Acts on the errors as DATASETS.ON_BAD_IMAGE says.

        Args:
            on_bad_image: "error", or "skip", which counts and logs instead.

        Raises:
            UserError: with "error", where there is one; the message is that of the first.
        """
        if not self.messages:
            return
        count = len(self.messages)
        if on_bad_image == "error":
            more = "" if count == 1 else f"\n{count - 1} more such; of a data set, python -m datasets check lists them"
            raise UserError(
                f"{self.messages[0]}{more}\nTo leave out what is damaged, with a warning: DATASETS.ON_BAD_IMAGE skip"
            )
        quoted = "; ".join([*self.messages[:SHOWN], *(["..."] if count > SHOWN else [])])
        logger.warning("DATASETS.ON_BAD_IMAGE skip: left out %d, %s", count, quoted)
