"""Runs what the other packages build: trains a stage, tests a model, ranks any images.

Hands out do_train, do_dry_run, do_inference, do_test, do_search, do_gallery_search with its SearchOptions,
read_baseline, RunPlan and check(cfg), each imported on first use.

    train, step, batches                     the training loop, one update, loaders whose workers may be killed
    train_state, state_checks, resume        a stage on disk: written, checked, and whether a run may resume it
    train_log, curves, lr_preview            what a user sees of training
    failures, signals                        NaN losses; SIGTERM and Ctrl-C
    evaluate, test                           features and metrics; a whole test
    search, gallery, ranked_lists            features of any images, features saved before; what is nearest to queries
    results, comparisons, tables, plots      results.json and results.csv, those of other runs, tables, figures
    baseline                                 errors relative to those of a baseline: mCE
    attention, dry_run                       attention maps; the plan and two batches of a stage
"""

import utils  # noqa: F401, I001  first, for the environment
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "baseline": ["read_baseline"],
        "dry_run": ["do_dry_run"],
        "evaluate": ["do_inference"],
        "resume": ["RunPlan"],
        "gallery": ["SearchOptions", "do_gallery_search"],
        "search": ["do_search"],
        "test": ["check", "do_test"],
        "train": ["do_train"],
    },
)
