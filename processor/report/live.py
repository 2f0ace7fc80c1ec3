"""The report of a running test: written as soon as there are results, and again with the corruption matrix."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from processor.evaluate import FeatureCache
from processor.report.collect import Recorder
from processor.report.page import FILE, write_report
from processor.report.record import About
from utils.distributed import is_main
from utils.structures import DataBundle, Protocol, RetrievalMetrics

logger = logging.getLogger(__name__)


class LiveReport:
    """Writes report_data.json and report.html of a test, in the main process, with TEST.REPORT.

    What goes wrong here is a warning: it never stops a test.

    Args:
        cfg: configuration of the test.
        about: what the command line knows of the run.
        data, weight, device: of the test.
        compared: directories of the results that are shown beside these.
    """

    def __init__(
        self,
        cfg: CfgNode,
        about: About,
        data: DataBundle,
        *,
        weight: str,
        device: torch.device,
        compared: Iterable[str] = (),
    ) -> None:
        self.output_dir, self.metric, self.about = Path(cfg.OUTPUT_DIR), cfg.TEST.METRIC, about
        self.compared = list(compared)
        self.recorder: Recorder | None = None
        if cfg.TEST.REPORT and is_main():
            self.recorder = self._try(
                lambda: Recorder(about, weight=weight, num_sets=len(data.test_sets), device=device)
            )

    def add_set(
        self, cache: FeatureCache, protocols: Sequence[Protocol], metrics: Mapping[str, RetrievalMetrics]
    ) -> None:
        """Records the test on one data set, whose features `cache` still holds."""
        if (recorder := self.recorder) is not None:
            self._try(lambda: recorder.add_set(cache, protocols, metrics, self.metric))

    def write(self, content: dict) -> None:
        """Writes the report of all that was recorded, beside a results.json with this content."""
        if (recorder := self.recorder) is None:
            return
        self._try(lambda: recorder.write(self.output_dir, content))
        directories: list[str | Path] = [self.output_dir, *self.compared]
        self._try(lambda: write_report(directories, defaults=self.about.defaults, out=self.output_dir / FILE))

    @staticmethod
    def _try(step: Callable[[], Any]) -> Any:
        try:
            return step()
        except Exception as error:  # whatever it is, the results count more
            logger.warning("report: not written (%s: %s); the results are not concerned", type(error).__name__, error)
            return None
