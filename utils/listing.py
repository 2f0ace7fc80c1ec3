"""Old name of utils.image_listing, until every import is moved."""

import sys

from utils import image_listing

sys.modules[__name__] = image_listing
