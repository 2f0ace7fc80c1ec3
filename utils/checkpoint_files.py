"""Old name of utils.checkpoint_integrity, until every import is moved."""

import sys

from utils import checkpoint_integrity

sys.modules[__name__] = checkpoint_integrity
