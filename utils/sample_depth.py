"""Old name of utils.image_depth, until every import is moved."""

import sys

from utils import image_depth

sys.modules[__name__] = image_depth
