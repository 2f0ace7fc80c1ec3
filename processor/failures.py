"""A loss that is not finite: the error that describes it, and the batch in a file."""

from pathlib import Path
from typing import Any

import torch

from utils.errors import UserError
from utils.files import write_files
from utils.structures import TrainState

MAX_SHOWN_PATHS = 3


def check_finite(
    values: list[dict[str, torch.Tensor]], state: TrainState, loader: Any, output_dir: str, *, lr_key: str
) -> None:
    """Checks the losses of the last steps.

    Args:
        values: the losses of each step, on the device.
        state: after the last step.
        loader: of the training batches; it loads the batch once more.
        output_dir: the batch is written there.
        lr_key: the key that gives this stage its lr, for the message.

    Raises:
        UserError: a loss is not finite; names every term, the batch and its file.
    """
    finite = torch.stack([terms["loss"] for terms in values]).isfinite().tolist()
    if all(finite):
        return
    first = finite.index(False)
    step = state.step - len(values) + first  # from 0
    terms = ", ".join(f"{name} {value.item():.6g}" for name, value in values[first].items())
    loader.batch_sampler.set_epoch(state.epoch, step)
    batch = loader.collate_fn([loader.dataset[key] for key in next(iter(loader.batch_sampler))])
    name = f"not_finite_{state.stage}_epoch{state.epoch + 1}_step{step + 1}.pth"
    path = Path(output_dir) / name
    content = {"batch": batch, "stage": state.stage, "epoch": state.epoch, "step": step}
    write_files({path: lambda partial: torch.save(content, partial)})
    paths = ", ".join(batch["paths"][:MAX_SHOWN_PATHS])
    raise UserError(
        f"stage {state.stage}, epoch {state.epoch + 1}, step {step + 1}: the loss is not finite ({terms}); no state of "
        f"this epoch is saved. The batch, {len(batch['paths'])} images ({paths}, ...), is in {path}: "
        f"torch.load(path)['batch']. Lower {lr_key}, raise SOLVER.WARMUP_EPOCHS, set SOLVER.GRAD_CLIP, or SOLVER.AMP "
        "bf16 or off"
    )
