"""The network of a run for other programs: python scripts/export.py run=runs/NAME format=onnx."""

import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import logging

import torch
from omegaconf import DictConfig
from torch import Tensor

from conf.launch import launch
from conf.schema import ExportFormat
from models.inference import export
from models.inference.deploy import deploy
from models.load import LoadedRun, load_run
from models.run_directory import RESULT, file_to_write, read, write_whole
from scripts.benchmarks.gated_networks import test_batches
from scripts.benchmarks.side_by_side import time_in_turn
from scripts.exports import hub

log = logging.getLogger(__name__)
NAMES = {
    ExportFormat.onnx: "model.onnx",
    ExportFormat.torch_export: "model.pt2",
    ExportFormat.safetensors: "weights.safetensors",
}
NUM_IMAGES = 16
ROUNDS = 10
TOLERANCE = 1e-4  # of a logit, where the largest is at most 1, else of the largest


def main(config: DictConfig) -> None:
    """Write what is asked for; what it computes is compared with what the network does before it gets its name."""
    if config.push and config.format != ExportFormat.hub:
        raise ValueError("push uploads what format=hub writes: give format=hub, or leave out push")
    run = load_run(config.run)
    if config.format == ExportFormat.hub:
        _write_folder(config, run)
        return
    net = deploy(run.net) if config.deploy else run.net
    out = file_to_write(config.out or _folder(config.run) / NAMES[config.format])
    if config.format == ExportFormat.safetensors:
        content = export.weights(net, _metadata(run))
        write_whole(out, content)
        print(f"{out}: {len(content) / 1e6:.1f} MB, the weights alone")
        return
    program = export.exported(net, run.input.shape)
    if config.format == ExportFormat.onnx:
        engine = "ONNX Runtime"
        content, compute = export.onnx(program, _metadata(run), threads=torch.get_num_threads())
    else:
        engine = "the exported program"
        content, compute = export.torch_export(program, _metadata(run))
    said = compared(run, compute, engine)
    write_whole(out, content)
    print(f"{out}: {len(content) / 1e6:.1f} MB\n{said}")


def _write_folder(config: DictConfig, run: LoadedRun) -> None:
    if config.deploy:
        raise ValueError(
            "format=hub describes the network as it was trained, for further training too: leave out deploy"
        )
    folder = _folder(config.run)
    result, out = read(folder / RESULT), Path(config.out or folder / "hub")
    with TemporaryDirectory() as draft:
        hub.write(Path(draft), run, result, config.push)
        said = compared(run, hub.opened(draft), "timm")
        out.mkdir(parents=True, exist_ok=True)
        written = sorted(Path(draft).iterdir())
        for path in written:
            write_whole(out / path.name, path.read_bytes())
    print(f"{out}: {', '.join(path.name for path in written)}\n{said}")
    if config.push:
        print(hub.push(out, config.push))


def _folder(run: str) -> Path:
    """The directory of the run, which `run` is, or a file in it."""
    source = Path(run)
    return source.parent if source.is_file() else source


def _metadata(run: LoadedRun) -> dict[str, Any]:
    """How the network was built, what it takes and what it answers."""
    shown = run.preprocessing and asdict(run.preprocessing)
    return {"model": run.config["model"], "input": vars(run.input), "classes": run.classes, "preprocessing": shown}


@torch.inference_mode()
def compared(run: LoadedRun, compute: export.Run, engine: str) -> str:
    """In words, how far `compute` is from the network, and how fast; ValueError where it computes something else."""
    images, kind = _images(run)
    expected, got = run.net(images), compute(images)
    difference, largest = (got - expected).abs().max().item(), expected.abs().max().item()
    if not difference <= TOLERANCE * max(1, largest):  # NaN is not
        raise ValueError(
            f"{engine} gives logits that differ from PyTorch's by {difference:.1e}, the largest of which is "
            f"{largest:.3g}: nothing was written"
        )
    times = time_in_turn(lambda: compute(images), lambda: run.net(images), ROUNDS)
    return (
        f"on {len(images)} {kind} images its logits differ from PyTorch's by at most {difference:.1e} (the largest is "
        f"{largest:.3g})\n{times.first:.2f} ms in {engine}, {times.second:.2f} ms in PyTorch for the network as it was "
        f"trained: medians of {ROUNDS} rounds, {torch.get_num_threads()} threads"
    )


def _images(run: LoadedRun) -> tuple[Tensor, str]:
    """Images (N, C, S, S) for the network and what they are: of the run's test set where that is there."""
    try:
        if "data" not in run.config:
            raise OSError("a model folder names no data set")
        images, _ = next(test_batches(run.config, "the run"))
    except OSError as absent:
        log.info(f"random images take the place of test images: {str(absent).partition(chr(10))[0]}")
        return torch.randn(NUM_IMAGES, *run.input.shape), "random"
    return images[:NUM_IMAGES].contiguous(), "test"


if __name__ == "__main__":
    launch(main, "export")
