"""The training loop of every stage."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from yacs.config import CfgNode

from processor.batches import LostWorker, loading, to_device
from processor.curves import Curves
from processor.evaluate import do_inference, make_evaluation
from processor.failures import check_finite
from processor.history import begin_history, write_history
from processor.lr_preview import preview
from processor.plots import save_lr_preview
from processor.resume import can_resume, library_versions
from processor.signals import StopRequest, stop_requests
from processor.step import TrainStep, resolve_amp
from processor.train_log import TrainLog
from processor.train_state import GlobalRNGs, last_checkpoint, load_state, save_state
from utils import distributed
from utils.checkpoints import save_checkpoint
from utils.errors import UserError
from utils.files import make_output_dir
from utils.held_back import HeldBack, make_held_back
from utils.openmp import sharing_cores
from utils.stage_identity import StageIdentity, settings_of_stage
from utils.stages import current_stage, own_key, stage_checkpoint
from utils.structures import DataBundle, Protocol, RetrievalMetrics, SetNumbers, TrainState

logger = logging.getLogger(__name__)


@sharing_cores()
def do_train(
    cfg: CfgNode,
    data: DataBundle,
    model: nn.Module,
    loss_fn: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: Any,
    *,
    device: torch.device,
    protocols: tuple[Protocol, ...] = (),
    ema: Any = None,
    identity: StageIdentity | None = None,
    earlier: tuple[HeldBack, ...] = (),
) -> TrainState:
    """Trains one stage: cfg.SOLVER.MAX_EPOCHS epochs, then its checkpoint, OUTPUT_DIR/checkpoints/<stage>.pth.

    After every epoch, and on SIGTERM or Ctrl-C, the whole state is saved as <stage>_last.pth, from which SOLVER.RESUME
    auto reaches the same weights, on a CPU to the last bit; it is removed once the stage is done. The best of the
    evaluated epochs is kept as <stage>_best.pth, every CHECKPOINT_PERIOD-th epoch as <stage>_<epoch>.pth.

    Args:
        cfg: configuration of the stage.
        data, model, loss_fn, optimizer, scheduler: as the make_* functions build them.
        device: where to train.
        protocols: evaluated with one repeat, every cfg.SOLVER.EVAL_PERIOD epochs of all stages but bridge.
        ema: moving average of the model (model.make_ema), which is then what is tested and kept.
        identity: what determines the weights, for the checkpoints; None: settings and counts alone.
        earlier: what the trainings held back that the initial weights come from, for the checkpoints.

    Returns:
        The state at the end, with the path of the checkpoint.

    Raises:
        UserError: a loss that is not finite, an OUTPUT_DIR that cannot be written, or a state that does not fit.
        SystemExit: interrupted by a signal; the status is the usual one, 130 or 143.
    """
    options = {"device": device, "protocols": protocols, "ema": ema, "identity": identity, "earlier": earlier}
    return StageTrainer(cfg, data, model, loss_fn, optimizer, scheduler, **options).run()


class StageTrainer:
    """Trains one stage; see `do_train`."""

    def __init__(
        self,
        cfg,
        data,
        model,
        loss_fn,
        optimizer,
        scheduler,
        *,
        device,
        protocols=(),
        ema=None,
        identity=None,
        earlier=(),
    ):
        self.cfg, self.data, self.device, self.protocols = cfg, data, device, protocols
        self.earlier = earlier
        self.model, self.loss_fn = model.to(device), loss_fn.to(device)
        self.optimizer, self.scheduler, self.ema = optimizer, scheduler, ema
        self.parts = {"model": self.model, "loss": self.loss_fn, "optimizer": optimizer, "scheduler": scheduler}
        if ema is not None:
            self.parts["ema"] = ema.module.to(device)
        self.evaluated = data.on(cfg.SOLVER.EVAL_ON).test_sets
        names = [one.splits.tested_name for one in self.evaluated]
        self.state = TrainState(stage=current_stage(cfg).name, test_sets=names)
        self.identity = identity or StageIdentity(self.state.stage, settings_of_stage(cfg), self._facts())
        self.step = TrainStep(
            self.model,
            self.loss_fn,
            optimizer,
            device=device,
            amp=resolve_amp(cfg.SOLVER.AMP, device),
            grad_clip=cfg.SOLVER.GRAD_CLIP,
            global_loss=cfg.SOLVER.GLOBAL_LOSS,
            parallel=self._parallel,
        )
        self.parts |= {"scaler": self.step.scaler, "generators": GlobalRNGs(device)}
        self.directory = Path(stage_checkpoint(cfg)).parent
        self.last = last_checkpoint(stage_checkpoint(cfg))
        self.last_is_ours = False  # a state on disk is an earlier run's
        self.sums: dict[str, torch.Tensor] = {}  # of the running epoch's logged values
        self.schedule: tuple[Any, Any] = ((), ())  # see write_history
        self.curves = Curves(cfg.OUTPUT_DIR)

    def _parallel(self, forward: nn.Module) -> nn.Module:
        """The forward pass, wrapped where several processes train."""
        if distributed.world_size() == 1 or not any(p.requires_grad for p in forward.parameters()):
            return forward
        devices = [self.device] if self.device.type == "cuda" else None
        # static_graph: some parameters take no part in the loss, the same ones in every step
        return DistributedDataParallel(
            forward, device_ids=devices, static_graph=True, broadcast_buffers=self._buffers_differ()
        )

    def _buffers_differ(self) -> bool:
        """Whether the processes have running statistics of their own; those of the first one count."""
        if distributed.world_size() == 1:
            return False
        return not self.cfg.SOLVER.GLOBAL_LOSS or any(isinstance(m, nn.BatchNorm2d) for m in self.model.modules())

    @property
    def tested(self) -> Any:
        """The model that is tested and kept."""
        return self.model if self.ema is None else self.ema.module

    def run(self) -> TrainState:
        make_output_dir(self.cfg.OUTPUT_DIR)
        make_output_dir(self.directory)
        cfg, state, epochs = self.cfg, self.state, self.cfg.SOLVER.MAX_EPOCHS
        trained = sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)
        plan = (
            f"{epochs} epochs of about {len(self.data.train)} steps, {trained / 1e6:.2f} million trainable parameters"
        )
        amp = "" if self.step.amp == "off" else f", {self.step.amp}"
        logger.info("stage %s: %s, on %s%s", state.stage, plan, self.device, amp)
        if cfg.SOLVER.EVAL_PERIOD and current_stage(cfg).has_identity_loss:
            sets = ", ".join(state.test_sets)
            logger.info("stage %s: the best epoch is chosen on %s (SOLVER.EVAL_ON)", state.stage, sets)
        self._resume()
        if not (state.epoch or state.step):
            begin_history(cfg.OUTPUT_DIR, state.stage)
        self._save_lr_preview()
        with TrainLog(self.cfg, state, len(self.data.train), self.optimizer, self.device) as self.log:
            while True:
                if self._evaluation_is_due():
                    self._evaluate()
                if state.epoch >= epochs:
                    break
                with stop_requests() as stop:
                    self._train_epoch(stop)
                    period = self.cfg.SOLVER.CHECKPOINT_PERIOD
                    if state.step == 0 and period and state.epoch % period == 0:
                        self._save_model(self.directory / f"{state.stage}_{state.epoch}.pth")
                    self._save_state()
                self._stop_if_asked(stop)
        state.checkpoint = stage_checkpoint(self.cfg)
        self._save_model(Path(state.checkpoint))
        distributed.barrier()  # the next stage, in any process, reads the file
        if distributed.is_main():
            self.last.unlink(missing_ok=True)
        logger.info("stage %s: done, %s", state.stage, state.checkpoint)
        return state

    def _resume(self) -> None:
        """Loads the state of an earlier run where SOLVER.RESUME auto finds one."""
        cfg, state = self.cfg, self.state
        if not self.last.exists():
            return
        if cfg.SOLVER.RESUME == "auto" and can_resume(cfg, self.last, self.identity):
            sums = load_state(self.last, self.parts, state, epochs=cfg.SOLVER.MAX_EPOCHS)
            self.sums = {name: value.to(self.device) for name, value in sums.items()}
            self.last_is_ours = True
            done = f"{state.epoch} epochs and {state.step} steps"
            logger.info("stage %s: resumed from %s, after %s", state.stage, self.last, done)
            self._drop_best_of_other_sets()
            return
        advice = "" if cfg.SOLVER.RESUME else " (SOLVER.RESUME auto would have resumed from it)"
        logger.warning(
            "stage %s: starts over; an earlier run that did not end left %s, which is backed up as NAME.1%s",
            state.stage,
            self.last,
            advice,
        )

    def _drop_best_of_other_sets(self) -> None:
        """Forgets the best epoch where the earlier run tested on other data sets; its file stays until a best of these.

        mAPs of different sets do not compare.
        """
        state, names = self.state, [one.splits.tested_name for one in self.evaluated]
        if state.best >= 0 and sorted(state.test_sets) != sorted(names):
            logger.info(
                "stage %s: the best epoch so far was that on %s; from here on it is the best on %s",
                *(state.stage, ", ".join(state.test_sets), ", ".join(names)),
            )
            state.best = -1.0
        state.test_sets = names

    def _save_lr_preview(self) -> None:
        path = Path(self.cfg.OUTPUT_DIR) / f"schedule_{self.state.stage}.png"
        epochs, curves = preview(self.optimizer, self.scheduler, self.cfg.SOLVER.MAX_EPOCHS, len(self.data.train))
        save_lr_preview(path, epochs, curves, f"stage {self.state.stage}: learning rates")
        self.schedule = (epochs, curves[0].lrs)

    def _stop_if_asked(self, stop: StopRequest) -> None:
        state = self.state
        stop.signal = distributed.all_reduce_max(stop.signal)
        done = f"{state.epoch} epochs and {state.step} steps"
        if stop.error:
            raise UserError(
                f"{stop.error}. The state of stage {state.stage} after {done} is in {self.last}; SOLVER.RESUME auto "
                "resumes from it"
            ) from stop.error
        if stop.signal:
            saved = f"the state after {done} is in {self.last}"
            logger.warning("stage %s: interrupted; %s, SOLVER.RESUME auto resumes from it", state.stage, saved)
            raise SystemExit(stop.exit_status)

    def _train_epoch(self, stop: StopRequest) -> None:
        """Trains the rest of the running epoch; ends early, after a whole step, where SIGTERM or Ctrl-C asks for it."""
        state, log = self.state, self.log
        self.model.train()
        self.data.train.batch_sampler.set_epoch(state.epoch, state.step)
        steps = len(self.data.train)  # of this epoch
        if state.step >= steps:
            raise UserError(
                f"{self.last}: not the state of this stage (step {state.step} of an epoch of {steps}); delete it to "
                "train the stage from its first epoch"
            )
        start = time.perf_counter()
        unchecked: list[dict[str, torch.Tensor]] = []  # values of the steps since the last wait for the device
        log.begin_epoch(steps)
        with loading(self.data.train) as batches:
            while state.step < steps:
                with log.waiting():
                    batch = self._next_batch(batches, stop)
                if distributed.all_reduce_max(stop.signal) or batch is None:
                    break
                self.scheduler.step(state.epoch + state.step / steps)
                unchecked.append(values := self.step(to_device(batch, self.device)))
                if self.ema is not None:
                    self.ema.update(self.model, step=state.updates)
                self.sums = {name: self.sums.get(name, 0) + value for name, value in values.items()}
                state.step, state.updates = state.step + 1, state.updates + 1
                due = state.step % self.cfg.SOLVER.LOG_PERIOD == 0 or state.step == steps
                if due or self.device.type == "cpu":  # on a GPU, reading a loss waits for the device
                    self._check_finite(unchecked)
                log.step(batch, values if due else None)
        state.seconds += time.perf_counter() - start
        self._check_finite(unchecked)  # weights of a NaN loss are no state to resume from
        if state.step < steps:
            return
        means = {name: (value / steps).item() for name, value in self.sums.items()}
        state.history.append({"lr": self.optimizer.param_groups[0]["lr"], **means})
        log.end_epoch(means, overflows=int(self.step.overflows.item()))
        state.epoch, state.step, self.sums = state.epoch + 1, 0, {}

    def _check_finite(self, unchecked: list[dict[str, torch.Tensor]]) -> None:
        """Checks the losses of the steps in `unchecked`, and empties it."""
        if unchecked:
            lr_key = own_key(self.cfg, "SOLVER.BASE_LR")
            check_finite(unchecked, self.state, self.data.train, self.cfg.OUTPUT_DIR, lr_key=lr_key)
            unchecked.clear()

    @staticmethod
    def _next_batch(batches: Iterator[dict], stop: StopRequest) -> dict | None:
        """The next batch; None where a worker was lost, for which all processes stop before another step."""
        try:
            return next(batches)
        except LostWorker as error:
            stop.fail(error)
            return None

    def _evaluation_is_due(self) -> bool:
        if not current_stage(self.cfg).has_identity_loss:  # the stage changes no tested feature
            return False
        period, epoch = self.cfg.SOLVER.EVAL_PERIOD, self.state.epoch
        done = any(evaluation["epoch"] == epoch for evaluation in self.state.evaluations)
        return bool(period and self.protocols and epoch and epoch % period == 0 and not done)

    def _evaluate(self) -> None:
        """Tests the model under every protocol with one repeat, on what SOLVER.EVAL_ON says, and keeps it if it is the
        best so far: by mAP under the corrupted protocol, else the first, the mean over the test sets."""
        state, evaluation = self.state, make_evaluation(self.cfg, plain=True)
        if self._buffers_differ():
            for buffer in self.tested.buffers():
                torch.distributed.broadcast(buffer, src=0)
        results: dict[str, RetrievalMetrics] = {}
        mean_aps = []
        for data in self.evaluated:
            found = do_inference(
                self.tested, data, self.protocols, device=self.device, repeats=1, evaluation=evaluation
            )
            ending = f"/{data.splits.name}" if len(self.evaluated) > 1 else ""
            results |= {f"{protocol}{ending}": metrics for protocol, metrics in found.items()}
            mean_aps.append(found.get("corrupted", next(iter(found.values()))).mAP)
        self.log.evaluation(results, split=self.cfg.SOLVER.EVAL_ON)
        place = "validation/" if self.cfg.SOLVER.EVAL_ON == "validation" else ""
        state.evaluations.append({"epoch": state.epoch, **{f"{place}{name}": m.mAP for name, m in results.items()}})
        mean_ap = sum(mean_aps) / len(mean_aps)
        if mean_ap > state.best:
            path, chosen = self.directory / f"{state.stage}_best.pth", {"selected_on": list(state.test_sets)}
            save_checkpoint(path, self.tested.export_state(), self._meta() | chosen, replace=state.best >= 0)
            state.best = mean_ap
        self._save_state()

    def _save_state(self) -> None:
        save_state(self.last, self.parts, self.state, self.sums, self._meta(), replace=self.last_is_ours)
        self.last_is_ours = True
        write_history(self.cfg.OUTPUT_DIR, self.state, self.schedule)
        if self.state.epoch:
            self.curves.renew(last=self.state.epoch >= self.cfg.SOLVER.MAX_EPOCHS)

    def _save_model(self, path: Path) -> None:
        save_checkpoint(path, self.tested.export_state(), self._meta())

    def _facts(self) -> dict[str, int]:
        data = self.data
        counts = (len(data.splits.train), data.num_classes, data.num_cameras, data.num_views)
        return dict(zip(("images", "identities", "cameras", "views"), counts, strict=True))

    def _images_seen(self) -> int:
        """Images that the trained network has seen, forward, in full batches; a stage of the bridge trains none."""
        stage, cfg = current_stage(self.cfg), self.cfg
        views = {"model": 3 if cfg.INPUT.SELF_ID else 1, "student": 2 if cfg.CFAT.STUDENT_VIEWS == "both" else 1}
        return self.state.updates * cfg.SOLVER.IMS_PER_BATCH * views.get(stage.trains, 0)

    def _held_back(self) -> dict:
        keys, validation = self.cfg.DATASETS, self.data.splits.validation
        names = [part.name for part in self._parts()]
        share, seed = keys.VALIDATION_SHARE, keys.VALIDATION_SEED
        return make_held_back(share, seed, validation, trained_on=names, earlier=self.earlier).describe()

    def _parts(self) -> tuple[SetNumbers, ...]:
        """The training sets."""
        return self.data.splits.parts or (self.data.numbers,)

    def _meta(self) -> dict:
        return {
            "stage": self.state.stage,
            "epoch": self.state.epoch,
            "images_seen": self._images_seen(),
            "training_seconds": round(self.state.seconds, 1),
            "dataset": self.data.splits.name,
            "dataset_version": self.data.splits.version,
            "num_pictures": len(self.data.splits.train),
            "seed": self.cfg.SEED,
            "num_classes": self.data.num_classes,
            "num_cameras": self.data.num_cameras,
            "num_views": self.data.num_views,
            "datasets": [
                {"name": part.name, "num_cameras": part.num_cameras, "num_views": part.num_views}
                for part in self._parts()
            ],
            **self._held_back(),
            "versions": library_versions(),
            "identity": self.identity.describe(),
            "config": self.cfg.dump(),
        }
