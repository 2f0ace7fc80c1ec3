"""What the commands of the documents need here: overrides that make them short, and those that do not run."""

import re

# One epoch of a tiny model from random weights on small images.
TINY_INPUT = 'INPUT.SIZE_TRAIN "[64, 32]" INPUT.SIZE_TEST "[64, 32]" DATASETS.CHECK_COUNTS False'
TINY_TEST = "TEST.REPEATS 1 TEST.RANKED_QUERIES 1 DATALOADER.NUM_WORKERS 0"
TINY_MODEL = 'MODEL.TRANSFORMER_TYPE test_vit MODEL.PRETRAIN_PATH ""'
TINY_TRAINING = (
    "SOLVER.IMS_PER_BATCH 8 DATALOADER.NUM_INSTANCE 2 SOLVER.WARMUP_EPOCHS 0 CFAT.CLEAN.MAX_EPOCHS 1 "
    "CFAT.CORRUPTED.MAX_EPOCHS 1 CFAT.BRIDGE.MAX_EPOCHS 1 CFAT.ALIGN.MAX_EPOCHS 1"
)
# (regular expression of a command, what is appended to it); the first that matches counts.
SHORTENED = (
    # Full-size models: two batches of each stage.
    (
        r"^python train\.py .*(resnet|MODEL\.NAME timm)",
        f'INPUT.SIZE_TRAIN "[70, 42]" INPUT.SIZE_TEST "[70, 42]" DATASETS.CHECK_COUNTS False {TINY_TEST} '
        f'{TINY_TRAINING} MODEL.PRETRAIN_PATH "" --dry-run',
    ),
    (
        # Ten splits of VIPeR; processes that import everything anew: one stage, one protocol.
        r"^python train\.py .*viper|^torchrun",
        f"{TINY_INPUT} {TINY_TEST} {TINY_MODEL} {TINY_TRAINING} CFAT.STAGES \"['clean']\" TEST.PROTOCOLS \"['clean']\"",
    ),
    (r"^python train\.py", f"{TINY_INPUT} {TINY_TEST} {TINY_MODEL} {TINY_TRAINING}"),
    (r"^python test\.py .*TEST\.MATRIX", f"{TINY_INPUT} {TINY_TEST} CORRUPTION.TEST \"['fog', 'rain']\""),
    (r"^python test\.py", f"{TINY_INPUT} {TINY_TEST}"),
    (r"^python -m datasets check", "DATASETS.CHECK_COUNTS False"),
)
# Beginning of a command -> why it does not run here.
NOT_RUN = {
    "python -m venv": "the environment is that of the tests",
    "pip ": "downloads packages",
    "python setup.py": "compiles the extensions, which CI does",
    "make test": "runs the tests, of which this is one",
    "make lint": "CI runs it",
    "make bench": "takes minutes; prints times and asserts nothing",
    "python -m pytest": "runs the tests, of which this is one",
    "torchrun --nnodes": "needs two machines",
    "python test.py --gallery logs/any/features.npz --query A.jpg --index": "needs faiss, which is not a requirement",
}
# Files that commands name and that no other command makes: copies of the demo's checkpoint.
CHECKPOINTS = (
    "checkpoint.pth",
    "vit_transreid_market.pth",
    "logs/market1501/cfat/checkpoints/align.pth",
)


# What commands call FILE, DIR and the like, as files: name -> what it is a copy of.
PLACEHOLDERS = {
    "FILE": "configs/Synthetic/cfat.yml",
    "DIR": "data/synthetic/query",
    **dict.fromkeys(("IMAGE", "A.jpg", "B.jpg"), "data/synthetic/query/0009_c1s1_005409_01.jpg"),
}


def is_run(command: str) -> bool:
    return not any(command.startswith(start) for start in NOT_RUN)


def appended(command: str) -> str:
    """Overrides for a command, as text."""
    return next((overrides for pattern, overrides in SHORTENED if re.search(pattern, command)), "")
