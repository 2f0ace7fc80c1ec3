"""Old name of utils.escaping, until every import is moved."""

import sys

from utils import escaping

sys.modules[__name__] = escaping
