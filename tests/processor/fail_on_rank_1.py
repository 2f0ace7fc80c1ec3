"""One process fails while the other waits for it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from utils.distributed import barrier, process_group, rank
from utils.errors import UserError, run_main


def main() -> None:
    with process_group():
        if rank() == 1:
            raise UserError("picture broken.jpg: cannot be read")
        barrier()


if __name__ == "__main__":
    sys.exit(run_main(main))
