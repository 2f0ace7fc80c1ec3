"""A loss that is not finite: what is known about it, and the batch to look at."""

from pathlib import Path

import torch

from utils.errors import UserError
from utils.files import write_files
from utils.structures import TrainState

SHOWN_PATHS = 3


def check_finite(values: list[dict[str, torch.Tensor]], state: TrainState, loader, output_dir: str) -> None:
    """Looks at the losses of the last steps.

    Args:
        values: what each of them gave, on the device.
        state: after the last of them.
        loader: of the training batches, which gives the batch once more.
        output_dir: where the batch is written.

    Raises:
        UserError: one is not finite; names every term, the batch and where it was written.
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
    paths = ", ".join(batch["paths"][:SHOWN_PATHS])
    raise UserError(
        f"stage {state.stage}, epoch {state.epoch + 1}, step {step + 1}: the loss is not finite ({terms}); nothing of "
        f"this epoch is saved as a state to go on from. The batch, {len(batch['paths'])} pictures ({paths}, ...), is "
        f"in {path}: torch.load(path)['batch']. Lower the stage's BASE_LR, raise "
        "SOLVER.WARMUP_EPOCHS, set SOLVER.GRAD_CLIP, or SOLVER.AMP bf16 or off"
    )
