"""The table of docs/models.md, "Model zoo": each row names an experiment and keys with which a model can be built."""

import re
import shlex

import pytest
import torch

from config import load_cfg
from model import make_model
from tests.helpers import REPOSITORY

ZOO = (REPOSITORY / "docs/models.md").read_text().partition("## Model zoo")[2].partition("\n## ")[0]
ROWS = re.findall(r"^\| [^|]+ \| `(\w+)([^`]*)`(?: and (`\[384, 128\]`))? \|", ZOO, re.MULTILINE)


def test_the_table_is_found():
    assert len(ROWS) > 15


@pytest.mark.parametrize(("name", "keys", "large"), [row for row in ROWS if "..." not in row[1]], ids=str)
def test_rows(name, keys, large):
    opts = shlex.split(keys)
    if large:
        opts += ["INPUT.SIZE_TRAIN", "[384, 128]", "INPUT.SIZE_TEST", "[384, 128]"]
    cfg = load_cfg(str(REPOSITORY / "configs" / "Market" / f"{name}.yml"), [*opts, "CFAT.STAGE", "clean"])
    with torch.device("meta"):
        model = make_model(cfg, num_classes=751, num_cameras=6, num_views=1)
    assert model.embed_dim >= 384
