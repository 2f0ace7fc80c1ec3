"""The test feature's model as a file that runs without this project: ONNX, or torch.export's .pt2.

Both formats come from one torch.export graph. The file is run and compared with torch before it gets its name. Its
metadata say what its inputs are and how to compare its features.
"""

import contextlib
import copy
import importlib.util
import io
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import nn
from yacs.config import CfgNode

from model.reid import ReIDModel
from utils.errors import UserError
from utils.files import make_output_dir, write_files

logger = logging.getLogger(__name__)

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
METADATA = "metadata.json"  # name of the extra file in a .pt2; an ONNX file has the same texts as metadata_props
OUTPUT = "feature"
MAX_DIFFERENCE = 1e-3  # between a feature of the file and torch's, in norms of torch's; float32 gives about 1e-6
TRACED_BATCH = 2
CHECKED_BATCHES = (1, 3)  # others than the traced one, or a batch size that became a constant would not show
METRICS = {
    "euclidean": "Euclidean distance, the smaller the more alike",
    "cosine": "cosine similarity, the larger the more alike",
}


class ExtractModule(nn.Module):
    """ReIDModel.extract as forward; a side input that is left out is 0 for every image."""

    zero: torch.Tensor

    def __init__(self, model: ReIDModel) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("zero", torch.tensor(0), persistent=False)

    def forward(
        self, images: torch.Tensor, camids: torch.Tensor | None = None, viewids: torch.Tensor | None = None
    ) -> torch.Tensor:
        camids = self.zero if camids is None else camids
        viewids = self.zero if viewids is None else viewids
        return self.model.extract(images, camids, viewids)


def export_if_asked(cfg: CfgNode, model: ReIDModel, *, weight: str) -> None:
    """Exports `model`, which came from the checkpoint `weight`, to TEST.EXPORT, where that names a file."""
    if cfg.TEST.EXPORT:
        img_size, metric = tuple(cfg.INPUT.SIZE_TEST), cfg.TEST.METRIC
        export_model(model, cfg.TEST.EXPORT, img_size=img_size, checkpoint=weight, metric=metric)


@torch.no_grad()
def export_model(
    model: ReIDModel,
    path: str | Path,
    *,
    img_size: tuple[int, int],
    checkpoint: str = "",
    metric: str = "euclidean",
) -> float:
    """Exports `model.extract` in eval mode on a CPU; one log line describes the file.

    Inputs are `images`, (N, 3, H, W) float32 in [0, 1] with any N, and those of `camids` and `viewids`, (N,) int64, on
    which the feature depends. The model itself stays as it is.

    Args:
        path: the file, ending in .onnx or .pt2; an earlier file with another content is backed up as NAME.1. ONNX
            weights of more than about 1.5 GB are in a file beside it, <name>.data.
        img_size: height and width of the images.
        checkpoint: where the weights came from; its name goes into the metadata.
        metric: how the features are meant to be compared, euclidean or cosine; goes into the metadata.

    Returns:
        The largest Euclidean distance between a feature of the file and torch's, as a share of the latter's norm.

    Raises:
        UserError: packages are missing, the export failed, or the file computes something else than torch. No file is
            then left, and an earlier one is untouched.
    """
    place = Path(path)
    if place.suffix not in FORMATS:
        raise UserError(f"export {path}: expected a file name ending in {' or '.join(FORMATS)}")
    if place.suffix == ".onnx":
        _check_onnx_packages(place)
    write, load = FORMATS[place.suffix]
    extractor = ExtractModule(copy.deepcopy(model).cpu()).eval().requires_grad_(False)
    sides = _side_inputs(model)
    make_output_dir(place.parent)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as directory:
        draft = Path(directory) / place.name
        try:
            with _silence():
                program = _trace(extractor, _make_inputs(TRACED_BATCH, img_size, sides))
                metadata = _describe(extractor.model, program, img_size, sides, checkpoint, METRICS[metric])
                kind = write(program, draft, metadata)
                difference = _compare(load(draft), extractor, img_size, sides)
        except Exception as error:  # the exporters raise classes of a dozen modules
            raise UserError(f"export {path}: no file was written, it failed with: {_reason(error)}") from error
        if not difference <= MAX_DIFFERENCE:  # nan, too
            raise UserError(
                f"export {path}: the file's features are up to {difference:.3g} of their norm away from torch's, "
                f"expected at most {MAX_DIFFERENCE:g}; no file was written. {_other_format(place)}"
            )
        size = sum(file.stat().st_size for file in Path(directory).iterdir()) / 2**20
        _move(Path(directory), place)
    summary = f"{kind}, {size:.1f} MiB, inputs {metadata['inputs']}, largest difference from torch {difference:.1e}"
    logger.info("exported %s: %s", place, summary)
    return difference


def _check_onnx_packages(place: Path) -> None:
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"export {place}: ONNX needs {', '.join(missing)}, not installed here: pip install {' '.join(missing)}. "
            f"{_other_format(place)}"
        )


def _other_format(place: Path) -> str:
    other = {".onnx": "A name ending in .pt2 writes torch.export's format, which needs torch alone"}
    return other.get(place.suffix, "A name ending in .onnx writes ONNX")


def _side_inputs(model: ReIDModel) -> dict[str, int]:
    """The side inputs on which the feature depends, with the number of values that each may take."""
    table = getattr(model.base, "sie_embed", None)
    if table is None or len(table) == 1:
        return {}
    counts = {"camids": model.base.num_cameras, "viewids": model.base.num_views}
    return {name: count for name, count in counts.items() if count > 1}


def _make_inputs(count: int, img_size: tuple[int, int], sides: dict[str, int]) -> dict[str, torch.Tensor]:
    """Random images, of different cameras and viewpoints."""
    images = torch.rand(count, 3, *img_size, generator=torch.Generator().manual_seed(count))
    numbers = {name: (torch.arange(count) + shift) % values for shift, (name, values) in enumerate(sides.items())}
    return {"images": images, **numbers}


def _trace(extractor: ExtractModule, inputs: dict[str, torch.Tensor]) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch")
    images, sides = inputs["images"], {name: value for name, value in inputs.items() if name != "images"}
    dynamic = {name: {0: batch} for name in inputs}  # the trace takes len() of a tensor for a constant, shape[0] not
    program = torch.export.export(extractor, (images,), sides, dynamic_shapes=dynamic)
    for node in program.graph.nodes:  # without this machine's paths and addresses, which change from run to run
        node.meta = {"val": node.meta["val"]} if "val" in node.meta else {}
    return program


def _describe(
    model: ReIDModel,
    program: torch.export.ExportedProgram,
    img_size: tuple[int, int],
    sides: dict[str, int],
    checkpoint: str,
    comparison: str,
) -> dict[str, str]:
    """Metadata of the file, for its users, as texts by name."""
    height, width = img_size
    mean, std = ([round(value, 6) for value in each.tolist()] for each in (model.normalize.mean, model.normalize.std))
    numbered = {"camids": "cameras", "viewids": "viewpoints"}
    return {
        "project": "CFAT",
        "task": "person re-identification: images of persons -> features",
        "checkpoint": Path(checkpoint).name,
        "torch_version": torch.__version__,
        "inputs": ", ".join(["images", *sides]),
        "images": f"float32 (N, 3, {height}, {width}) in [0, 1], any N",
        **{
            name: f"int64 (N,), 0 to {count - 1}: {numbered[name]} as the training data set counts them, from 0"
            for name, count in sides.items()
        },
        "input_height": str(height),
        "input_width": str(width),
        "channels": "RGB",
        "resize": "to that size, bilinear with antialias, as PIL's Image.resize of 8-bit images",
        "scale": "divide 8-bit values by 255",
        "mean": str(mean),
        "std": str(std),
        "normalisation": "(x - mean) / std is part of the model: do not apply it",
        "output": OUTPUT,
        "test_feature": model.test_feature,
        "mirror": "the feature is the mean of those of the image and its mirror image" if model.flip else "none",
        "dimension": str(_output_width(program)),
        "l2_normalised": "true" if model.feat_norm else "false",
        "compare": comparison,
    }


def _output_width(program: torch.export.ExportedProgram) -> int:
    (output,) = program.graph.output_node().args[0]
    return int(output.meta["val"].shape[1])


def _write_onnx(program: torch.export.ExportedProgram, draft: Path, metadata: dict[str, str]) -> str:
    names = metadata["inputs"].split(", ")
    onnx_program = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        input_names=names,
        output_names=[OUTPUT],
        dynamic_shapes={name: {0: "batch"} for name in names},  # the name that the file shows
    )
    assert onnx_program is not None
    onnx_program.model.metadata_props.update(metadata)
    onnx_program.save(draft)
    return f"ONNX opset {onnx_program.model.opset_imports['']}"


def _load_onnx(draft: Path) -> Callable[..., torch.Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(draft, options, providers=["CPUExecutionProvider"])
    return lambda **inputs: torch.from_numpy(
        session.run([OUTPUT], {name: value.numpy() for name, value in inputs.items()})[0]
    )


def _write_pt2(program: torch.export.ExportedProgram, draft: Path, metadata: dict[str, str]) -> str:
    torch.export.save(program, draft, extra_files={METADATA: json.dumps(metadata, indent=1)})
    return f"torch.export of torch {torch.__version__}"


def _load_pt2(draft: Path) -> Callable[..., torch.Tensor]:
    module = torch.export.load(draft).module()
    return lambda images, **sides: module(images, **sides)


FORMATS = {".onnx": (_write_onnx, _load_onnx), ".pt2": (_write_pt2, _load_pt2)}


def _compare(
    run: Callable[..., torch.Tensor], extractor: ExtractModule, img_size: tuple[int, int], sides: dict[str, int]
) -> float:
    distances = []
    for count in CHECKED_BATCHES:
        inputs = _make_inputs(count, img_size, sides)
        expected, found = extractor(**inputs), run(**inputs)
        if found.shape != expected.shape:
            raise ValueError(f"the file gives {tuple(found.shape)} for {tuple(expected.shape)}")
        distances.append((found - expected).norm(dim=1) / expected.norm(dim=1))
    return torch.cat(distances).max().item()


def _move(source: Path, place: Path) -> None:
    """Moves the files of directory `source` beside `place`; earlier ones are backed up."""
    files = sorted(source.iterdir())
    weights = [place.with_name(file.name) for file in files if file.name != place.name]
    if any(
        file.exists() for file in weights
    ):  # backed up under another name, the earlier model would read the new weights
        raise UserError(
            f"export {place}: {weights[0].name} is there already and belongs to an earlier model; choose another name"
        )
    write_files({place.with_name(file.name): partial(os.replace, file) for file in files})


def _reason(error: BaseException) -> str:
    """First line of the error's first cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{lines[0] if lines else 'no message'} ({type(error).__name__})"


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppresses what the exporters print, warn of and log."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    nowhere = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
