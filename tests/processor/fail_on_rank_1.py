"""One process ends while the others wait at a barrier.

python fail_on_rank_1.py error|crash|kill
"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from utils.command_line import run_main
from utils.distributed import barrier, process_group, rank
from utils.errors import UserError


def main() -> None:
    with process_group():
        barrier()
        if rank() == 1:
            if "kill" in sys.argv:
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("CUDA out of memory") if "crash" in sys.argv else UserError("image broken.jpg: damaged")
        barrier()


if __name__ == "__main__":
    sys.exit(run_main(main))
