"""Checks the optimizer's part of a configuration without building anything."""

from timm.optim import get_optimizer_info, list_optimizers
from yacs.config import CfgNode

from utils.errors import UserError, did_you_mean

TORCH_NAMES = ("sgd", "adam", "adamw")  # built by torch, every other one by timm


def check(cfg: CfgNode) -> None:
    """Checks that the optimizer of a stage exists and can run here, and that its settings go together.

    Raises:
        UserError: an unknown optimizer, one that cannot work here, or settings that do not go together.
    """
    name = cfg.SOLVER.OPTIMIZER_NAME.lower()
    if name not in TORCH_NAMES:
        _check_timm_name(cfg.SOLVER.OPTIMIZER_NAME)
    _check_momentum(cfg.SOLVER, name)
    if cfg.SOLVER.LAYER_DECAY != 1 and cfg.MODEL.NAME not in ("transformer", "timm"):
        raise UserError(
            f"SOLVER.LAYER_DECAY {cfg.SOLVER.LAYER_DECAY}: it goes by the blocks of a vision transformer, and this "
            "model has none; set it to 1.0, or MODEL.NAME to transformer or timm"
        )


def _check_timm_name(name: str) -> None:
    lower = name.lower()
    usable = [known for known in map(str, list_optimizers()) if not _what_it_lacks(known)]
    if lower in usable:
        return
    if lower.startswith("lookahead_"):
        reason = "the training loop does not average at its end, as Lookahead must; SOLVER.EMA_DECAY averages weights"
    elif lower in list_optimizers():
        reason = _what_it_lacks(lower)
    else:
        reason = "there is no such optimizer"
    raise UserError(
        f"SOLVER.OPTIMIZER_NAME {name}: {reason}; take SGD, Adam, AdamW, or one of timm's, which "
        "python -c 'import timm.optim; print(timm.optim.list_optimizers())' lists"
        f"{did_you_mean(lower.removeprefix('lookahead_'), usable, count=3)}"
    )


def _what_it_lacks(name: str) -> str:
    """Why one of timm's optimizers cannot work here; "" where it can."""
    info = get_optimizer_info(name)
    if isinstance(info.opt_class, str):
        package = info.opt_class.split(".")[0]
    elif name.startswith("kron"):
        package = "opt_einsum"  # without it, timm warns and then asks for many GB
    else:
        return "it needs second derivatives, which the training loop does not compute" if info.second_order else ""
    return f"it needs {package}, which requirements.txt does not have"


def _check_momentum(solver: CfgNode, name: str) -> None:
    if solver.NESTEROV and name != "sgd":
        raise UserError(
            f"SOLVER.NESTEROV True: it is for SGD, not for {solver.OPTIMIZER_NAME}; set it to False (timm has "
            "optimizers with Nesterov momentum under names of their own, e.g. nadamw, nlars)"
        )
    info = get_optimizer_info(name)
    built_in = name not in TORCH_NAMES and info.has_momentum and (info.defaults or {}).get("nesterov")
    if (solver.NESTEROV or built_in) and not solver.MOMENTUM:
        raise UserError(
            f"SOLVER.MOMENTUM {solver.MOMENTUM}: {solver.OPTIMIZER_NAME} uses Nesterov momentum and needs one above 0; "
            f"set SOLVER.MOMENTUM, e.g. to 0.9{', or SOLVER.NESTEROV to False' if solver.NESTEROV else ''}"
        )
