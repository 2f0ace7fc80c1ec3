"""Floor 3: runs what was built. do_train trains a stage, do_inference evaluates test settings, do_test also reports,
do_search ranks any pictures.

train: the stage loop   step: one update   progress, summary: what a person sees
resume: the state of a stage on disk   state_records: whether what a file says is what it must be
failures: a loss that is not finite   rehearsal: a run's plan and its first batches
inference: features and metrics   report: result files, table and ranked lists
search: features of any pictures, ranked for a query picture
"""

import utils  # noqa: F401  first, for the environment
from processor.dry_run import dry_run
from processor.evaluate import do_inference
from processor.resume import Run
from processor.search import do_search
from processor.test import check_test_settings, do_test
from processor.train import do_train

__all__ = [
    "Run",
    "check_test_settings",
    "do_inference",
    "do_search",
    "do_test",
    "do_train",
    "dry_run",
]
