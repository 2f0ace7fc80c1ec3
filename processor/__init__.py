"""Runs what the other packages build: trains a stage, tests a model, ranks any images.

Hands out do_train, do_dry_run, do_inference, do_test, do_search, RunPlan and check(cfg), each imported on first use.

    train, step, batches                     the training loop, one update, loaders whose workers may be killed
    train_state, state_checks, resume        a stage on disk: written, checked, and whether a run may resume it
    train_log, curves, lr_preview            what a user sees of training
    failures, signals                        NaN losses; SIGTERM and Ctrl-C
    evaluate, test, search                   features and metrics; a whole test; any images
    results, comparisons, tables, plots      results.json and results.csv, those of other runs, tables, figures
    attention, dry_run                       attention maps; the plan and two batches of a stage
"""

import utils  # noqa: F401, I001  first, for the environment
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "dry_run": ["do_dry_run"],
        "evaluate": ["do_inference"],
        "resume": ["RunPlan"],
        "search": ["do_search"],
        "test": ["check", "do_test"],
        "train": ["do_train"],
    },
)
