"""Old name of utils.yaml_reader, until every import is moved."""

import sys

from utils import yaml_reader

sys.modules[__name__] = yaml_reader
