from .make_loss import CombinedLoss as CombinedLoss
from .make_loss import make_loss as make_loss
from .terms import check as check
