from .check import check as check
from .make_optimizer import make_optimizer as make_optimizer
from .make_scheduler import make_scheduler as make_scheduler
