"""One update of the weights, in full or half precision, on one process or as one of several."""

import itertools
from collections.abc import Callable

import torch
from torch import nn

from processor.cpu_precision import keep_slow_in_float32
from utils import distributed, sharding
from utils.collapse import collapse_statistics

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_amp(amp: str, device: torch.device) -> str:
    """The precision that SOLVER.AMP stands for on a device: bf16, fp16 or off."""
    if amp != "auto":
        return amp
    if device.type != "cuda":
        return "off"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


class ForwardPass(nn.Module):
    """A batch through model and loss.

    DistributedDataParallel wraps both: from the first step on, it waits for the gradient of every parameter that a
    differentiable output depends on. So the loss is the only one, and what no loss trains is not waited for.

    Args:
        model, loss_fn, amp, global_loss: as of TrainStep.
        device_type: of model, loss and batches.
    """

    def __init__(self, model: nn.Module, loss_fn: nn.Module, *, device_type: str, amp: str, global_loss: bool) -> None:
        super().__init__()
        self.model, self.loss_fn = model, loss_fn
        self.device_type, self.amp, self.global_loss = device_type, amp, global_loss

    def forward(self, batch: dict) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """The losses, of which "loss" alone has a gradient, and the statistics that TrainStep returns beside them."""
        with torch.autocast(self.device_type, AMP_DTYPES.get(self.amp), enabled=self.amp != "off"):
            output = self.model(batch)
        labels = sharding.all_gather_rows(batch["pids"])[0] if self.global_loss else batch["pids"]
        losses = self.loss_fn(output, {**batch, "pids": labels})
        terms = {name: value.detach() for name, value in losses.items()}
        repeated = labels.repeat(len(output.embedding) // len(labels))  # (N,)
        statistics = {}
        if output.logits is not None:
            statistics["accuracy"] = (output.logits.detach().argmax(dim=1) == repeated).float().mean()
        statistics |= collapse_statistics(output.embedding, repeated)
        on_neck = collapse_statistics(output.features, repeated)
        return terms | {"loss": losses["loss"]}, statistics | {f"neck_{name}": value for name, value in on_neck.items()}


class TrainStep:
    """Forward, loss, backward and update on a batch that is on the model's device.

    With `amp` the backbone computes in half precision; heads, losses and, on a CPU, what processor.cpu_precision lists
    are float32. No step waits for the device.

    Args:
        model: called with a batch.
        loss_fn: (output, batch) -> losses.
        optimizer: over the parameters of both.
        device: of model, loss and batches.
        amp: "bf16", "fp16" or "off".
        grad_clip: largest norm of the model's gradient; 0: no limit. The loss's parameters are not clipped.
        global_loss: with several processes, the losses see the rows of all of them.
        parallel: wraps the forward pass where there are several processes, to average their gradients.

    Attributes:
        scaler: of the loss; enabled with fp16 only.
        overflows: number of steps skipped because the scaled gradient overflowed, 0-dim on the device.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        device: torch.device,
        amp: str = "off",
        grad_clip: float = 0.0,
        global_loss: bool = True,
        parallel: Callable[[nn.Module], nn.Module] = lambda module: module,
    ) -> None:
        self.model, self.loss_fn, self.optimizer = model, loss_fn, optimizer
        self.amp, self.grad_clip = amp, grad_clip
        global_loss = global_loss and distributed.world_size() > 1
        forward = ForwardPass(model, loss_fn, device_type=device.type, amp=amp, global_loss=global_loss)
        self.forward = parallel(forward)
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp == "fp16")
        self.overflows = torch.zeros((), device=device)
        if device.type == "cpu" and amp != "off":
            keep_slow_in_float32()

    def __call__(self, batch: dict) -> dict[str, torch.Tensor]:
        """One update.

        Returns:
            The loss terms, `grad_norm` of the model before clipping, the identity classifier's `accuracy` where there
            is one, and utils.collapse's statistics of the embeddings, and `neck_...` after the neck; 0-dim tensors on
            the device.
        """
        losses, statistics = self.forward(batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(losses["loss"]).backward()
        self.scaler.unscale_(self.optimizer)
        if self.scaler.is_enabled():
            self.overflows += self._overflowed()
        norm = self._clip()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return {**losses, "loss": losses["loss"].detach(), "grad_norm": norm, **statistics}

    def _overflowed(self) -> torch.Tensor:
        """Whether a gradient is infinite or NaN: the scaler skips the step. Its get_scale() would wait for the GPU."""
        trained = itertools.chain(self.model.parameters(), self.loss_fn.parameters())
        gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
        return ~nn.utils.get_total_norm(gradients, norm_type=torch.inf).isfinite()

    def _clip(self) -> torch.Tensor:
        parameters = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.grad_clip:
            nn.utils.clip_grads_with_norm_(parameters, self.grad_clip, norm)
        return norm
