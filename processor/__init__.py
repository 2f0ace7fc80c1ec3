"""Floor 3: runs what was built. do_train trains a stage, do_inference evaluates test settings, do_test also reports.

train: the stage loop and its step   inference: features and metrics   report: result files, table and ranked lists
"""

from processor.inference import do_inference
from processor.report import check_test_settings, do_test
from processor.train import do_train

__all__ = ["check_test_settings", "do_inference", "do_test", "do_train"]
