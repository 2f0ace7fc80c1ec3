"""Floor 3: runs what was built. do_train trains a stage, do_inference evaluates test settings, do_test also reports.

train: the stage loop   step: one update   resume: the state of a stage on disk   progress: what a person sees
inference: features and metrics   report: result files, table and ranked lists
"""

from processor.inference import do_inference
from processor.report import check_test_settings, do_test
from processor.resume import is_finished
from processor.train import do_train

__all__ = ["check_test_settings", "do_inference", "do_test", "do_train", "is_finished"]
