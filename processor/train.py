"""The training loop of every stage."""

import logging
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from processor.batches import LostWorker, loading, to_device
from processor.evaluate import do_inference, make_evaluation
from processor.failures import check_finite
from processor.lr_preview import preview
from processor.plots import save_lr_preview
from processor.resume import (
    Generators,
    can_go_on,
    last_checkpoint,
    library_versions,
    load_state,
    save_state,
)
from processor.signals import StopRequest, stop_requests
from processor.step import TrainStep, resolve_amp
from processor.train_log import Progress
from utils import distributed
from utils.checkpoints import save_checkpoint
from utils.errors import UserError
from utils.files import make_output_dir
from utils.stage_identity import StageIdentity, settings_of_stage
from utils.stages import current_stage, stage_checkpoint
from utils.structures import DataBundle, Protocol, TrainState

logger = logging.getLogger(__name__)


def do_train(
    cfg,
    data: DataBundle,
    model: nn.Module,
    loss_fn: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler,
    *,
    device: torch.device,
    protocols: tuple[Protocol, ...] = (),
    ema=None,
    identity: StageIdentity | None = None,
) -> TrainState:
    """Trains one stage: cfg.SOLVER.MAX_EPOCHS epochs, then its checkpoint, OUTPUT_DIR/checkpoints/<stage>.pth.

    After every epoch, and when SIGTERM or Ctrl-C asks it to stop, the whole state goes to <stage>_last.pth, from which
    SOLVER.RESUME auto goes on to the same weights, on a CPU to the last bit; it is removed once the stage is done. Of
    the evaluated epochs the best is kept as <stage>_best.pth, every CHECKPOINT_PERIOD-th as <stage>_<epoch>.pth.

    Args:
        cfg: configuration of the stage.
        data, model, loss_fn, optimizer, scheduler: as the make_* functions build them.
        device: where to train.
        protocols: test settings evaluated, one draw each, every cfg.SOLVER.EVAL_PERIOD epochs of all stages but bridge.
        ema: moving average of the model (model.make_ema), which is then what is tested and kept.
        identity: what determines the weights, for the checkpoints; None: settings and counts alone.

    Raises:
        UserError: a loss that is not finite, an OUTPUT_DIR that cannot be written, or a state that does not fit.
        SystemExit: it was asked to stop; the status is the usual one, 130 or 143.
    """
    return _Stage(cfg, data, model, loss_fn, optimizer, scheduler, device, protocols, ema, identity).run()


class _Stage:
    """One stage in training."""

    def __init__(self, cfg, data, model, loss_fn, optimizer, scheduler, device, protocols, ema, identity=None) -> None:
        self.cfg, self.data, self.device, self.protocols = cfg, data, device, protocols
        self.model, self.loss_fn = model.to(device), loss_fn.to(device)
        self.optimizer, self.scheduler, self.ema = optimizer, scheduler, ema
        if ema is not None:
            ema.module.to(device)
        self.state = TrainState(stage=current_stage(cfg).name)
        counts = {"images": len(data.splits.train), "identities": data.num_classes, "cameras": data.num_cameras,
                  "views": data.num_views}  # fmt: skip
        self.identity = identity or StageIdentity(self.state.stage, settings_of_stage(cfg), counts)
        self.sampler = data.train.batch_sampler
        amp = resolve_amp(cfg.SOLVER.AMP, device)
        self.step = TrainStep(
            self._shared(self.model), self.loss_fn, optimizer, device=device, amp=amp, grad_clip=cfg.SOLVER.GRAD_CLIP,
            global_loss=cfg.SOLVER.GLOBAL_LOSS,
        )  # fmt: skip
        self.parts = {
            "model": self.model, "loss": self.loss_fn, "optimizer": optimizer, "scheduler": scheduler,
            "scaler": self.step.scaler, "generators": Generators(device),
            **({} if ema is None else {"ema": ema.module}),
        }  # fmt: skip
        self.directory = Path(stage_checkpoint(cfg)).parent
        self.last = last_checkpoint(stage_checkpoint(cfg))
        self.last_is_ours = False  # a state that is there is an earlier run's
        self.sums: dict[str, torch.Tensor] = {}  # of the running epoch's logged values

    def _shared(self, model: nn.Module) -> nn.Module:
        if distributed.world_size() == 1 or not any(p.requires_grad for p in model.parameters()):
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        # static_graph: parameters may take no part in the loss, the same ones in every step
        return DistributedDataParallel(model, device_ids=devices, static_graph=True)

    @property
    def tested(self) -> nn.Module:
        """The model that is tested and kept."""
        return self.model if self.ema is None else self.ema.module

    def run(self) -> TrainState:
        cfg, state = self.cfg, self.state
        epochs = cfg.SOLVER.MAX_EPOCHS
        make_output_dir(cfg.OUTPUT_DIR)
        make_output_dir(self.directory)
        learning = sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)
        logger.info(
            "stage %s: %d epochs of about %d steps, %.2f million learning parameters, on %s%s", state.stage, epochs,
            len(self.data.train), learning / 1e6, self.device, "" if self.step.amp == "off" else f", {self.step.amp}",
        )  # fmt: skip
        if cfg.SOLVER.RESUME == "auto" and self.last.exists() and can_go_on(cfg, self.last, self.identity):
            sums = load_state(self.last, self.parts, state, epochs=epochs)
            self.sums = {name: value.to(self.device) for name, value in sums.items()}
            self.last_is_ours = True
            logger.info(
                "stage %s: goes on from %s, after %d epochs and %d steps",
                state.stage, self.last, state.epoch, state.step,
            )  # fmt: skip
        elif self.last.exists():
            logger.warning(
                "stage %s: begins anew; an earlier run that did not end left %s, which is backed up as NAME.1%s",
                state.stage, self.last,
                "" if cfg.SOLVER.RESUME else " (SOLVER.RESUME auto would have gone on from it)",
            )  # fmt: skip
        self._preview()
        with Progress(cfg, state, len(self.data.train), self.optimizer, self.device) as self.progress:
            while True:
                if self._evaluation_is_due():
                    self._evaluate()
                if state.epoch >= epochs:
                    break
                with stop_requests() as stop:
                    self._train_epoch(stop)
                    period = cfg.SOLVER.CHECKPOINT_PERIOD
                    if state.step == 0 and period and state.epoch % period == 0:
                        self._save_model(self.directory / f"{state.stage}_{state.epoch}.pth")
                    self._save_state()
                stop.signal = distributed.all_reduce_max(stop.signal)
                if stop.error:
                    raise UserError(
                        f"{stop.error}. The state of stage {state.stage} after {state.epoch} epochs and {state.step} "
                        f"steps is in {self.last}; SOLVER.RESUME auto goes on from there"
                    ) from stop.error
                if stop.signal:
                    logger.warning(
                        "stage %s: asked to stop; what is done, %d epochs and %d steps, is in %s, and SOLVER.RESUME "
                        "auto goes on from there", state.stage, state.epoch, state.step, self.last,
                    )  # fmt: skip
                    raise SystemExit(stop.exit_status)
        state.checkpoint = stage_checkpoint(cfg)
        self._save_model(Path(state.checkpoint))
        distributed.barrier()  # the next stage, in any process, reads the file
        if distributed.is_main():
            self.last.unlink(missing_ok=True)
        logger.info("stage %s: done, %s", state.stage, state.checkpoint)
        return state

    def _preview(self) -> None:
        """Draws the learning rates of the stage."""
        path = Path(self.cfg.OUTPUT_DIR) / f"schedule_{self.state.stage}.png"
        epochs, rates = preview(self.optimizer, self.scheduler, self.cfg.SOLVER.MAX_EPOCHS, len(self.data.train))
        save_lr_preview(path, epochs, rates, f"stage {self.state.stage}: learning rates")

    def _train_epoch(self, stop: StopRequest) -> None:
        """What is left of the running epoch, or until SIGTERM or Ctrl-C ask to stop, after the step that they meet."""
        state = self.state
        self.model.train()
        self.sampler.set_epoch(state.epoch, state.step)
        steps = len(self.data.train)  # of this epoch
        if state.step >= steps:
            raise UserError(
                f"{self.last}: not the state of this stage (step {state.step} of an epoch of {steps}); delete it to "
                "train the stage anew"
            )
        unchecked: list[dict[str, torch.Tensor]] = []  # values of the steps since the device was last waited for
        with self.progress.epoch(state, steps) as shown, loading(self.data.train) as batches:
            while state.step < steps:
                with shown.waiting():
                    batch = self._next_batch(batches, stop)
                if distributed.all_reduce_max(stop.signal):
                    break
                self.scheduler.step(state.epoch + state.step / steps)
                unchecked.append(values := self.step(to_device(batch, self.device)))
                if self.ema is not None:
                    self.ema.update(self.model, step=state.updates)
                self.sums = {name: self.sums.get(name, 0) + value for name, value in values.items()}
                state.step, state.updates = state.step + 1, state.updates + 1
                due = state.step % self.cfg.SOLVER.LOG_PERIOD == 0 or state.step == steps
                if due or self.device.type == "cpu":  # elsewhere, to look at a loss is to wait for the device
                    check_finite(unchecked, state, self.data.train, self.cfg.OUTPUT_DIR)
                    unchecked = []
                shown.step(batch, values if due else None)
            if state.step < steps:
                if unchecked:  # broken weights are no state to go on from
                    check_finite(unchecked, state, self.data.train, self.cfg.OUTPUT_DIR)
                return
            means = {name: (value / steps).item() for name, value in self.sums.items()}
            state.history.append(means)
            shown.end(means, overflows=int(self.step.overflows.item()))
        state.epoch, state.step, self.sums = state.epoch + 1, 0, {}

    @staticmethod
    def _next_batch(batches: Iterator[dict], stop: StopRequest) -> dict | None:
        """The next batch; None where a worker was lost, for which all processes stop before they begin another step."""
        try:
            return next(batches)
        except LostWorker as error:
            stop.fail(error)
            return None

    def _evaluation_is_due(self) -> bool:
        if not current_stage(self.cfg).has_identity_loss:  # which changes nothing about what is tested
            return False
        period, epoch = self.cfg.SOLVER.EVAL_PERIOD, self.state.epoch
        done = any(evaluation["epoch"] == epoch for evaluation in self.state.evaluations)
        return bool(period and self.protocols and epoch and epoch % period == 0 and not done)

    def _evaluate(self) -> None:
        """Tests the model under every setting, one draw each, and keeps it where it is the best so far."""
        state = self.state
        results = do_inference(
            self.tested, self.data, self.protocols, device=self.device, repeats=1,
            evaluation=make_evaluation(self.cfg, re_ranking=False),
        )  # fmt: skip
        self.progress.evaluation(state, results)
        state.evaluations.append({"epoch": state.epoch, **{name: m.mAP for name, m in results.items()}})
        mean_ap = results.get("corrupted", next(iter(results.values()))).mAP
        if mean_ap > state.best:
            self._save_model(self.directory / f"{state.stage}_best.pth", replace=state.best >= 0)
            state.best = mean_ap
        self._save_state()

    def _save_state(self) -> None:
        save_state(self.last, self.parts, self.state, self.sums, self._meta(), replace=self.last_is_ours)
        self.last_is_ours = True

    def _save_model(self, path: Path, *, replace: bool = False) -> None:
        save_checkpoint(path, self.tested.export_state(), self._meta(), replace=replace)

    def _meta(self) -> dict:
        return {
            "stage": self.state.stage,
            "epoch": self.state.epoch,
            "dataset": self.data.splits.name,
            "dataset_version": self.data.splits.version,
            "num_pictures": len(self.data.splits.train),
            "seed": self.cfg.SEED,
            "num_classes": self.data.num_classes,
            "num_cameras": self.data.num_cameras,
            "num_views": self.data.num_views,
            "versions": library_versions(),
            "identity": self.identity.describe(),
            "config": self.cfg.dump(),
        }
