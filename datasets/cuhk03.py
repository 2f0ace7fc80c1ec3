"""CUHK03."""

import re

from datasets.market1501 import FileNames

FOLDERS = ("cuhk03",)
FILE_NAMES = FileNames(
    re.compile(r"(?P<pid>-?\d+)_c(?P<camera>\d+).*\.(jpg|png)", re.IGNORECASE),
    "<pid>_c<camera>_<number>.png, e.g. 0003_c1_21.png",
)


def read_cuhk03(root_dir, faults, *, boxes="detected", classic_split=0):
    raise NotImplementedError
