"""benchmark=train: the price of training through train.py's own parts, in images a second.

Each row pairs train.py's classifier, callbacks, loggers and trainer with a plainer way to take the same
steps: same network, same batches, same optimizer. Both sides run in turn, `repeats` times; every run warms
up for one epoch and times the next. A ratio is the median over the pairs, with the smallest and largest.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from pathlib import Path
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

from callbacks.throughput import Throughput
from conf.run import Run
from models.build import Built
from models.cost import count
from scripts.benchmarks.side_by_side import measure_in_turn
from train import fit

Batch = tuple[Tensor, Tensor]
Speed = Callable[[], float]  # images a second


def rows(*, steps: int, small_steps: int, repeats: int, threads: int) -> Iterator[dict[str, Any]]:
    """One row for ResNet-20 at 32 px against a bare loop, one for a single layer against an empty Trainer."""
    torch.set_num_threads(threads)
    logging.getLogger("callbacks").setLevel(logging.WARNING)  # no line an epoch
    resnet20 = partial(_resnet20, compose("train", ["model=resnet20", "data=fake"]))
    large, small = _ready(steps, 128, 3, 32), _ready(small_steps, 32, 1, 8)
    yield _row("resnet20_32px_batch128", "bare loop", resnet20, large, bare_loop, repeats, threads)
    yield _row("one_layer_8px_batch32", "empty Trainer", _one_layer, small, empty_trainer, repeats, threads)


def _row(name: str, peer: str, make: Callable, batches: "_Repeat", run_peer: Callable, repeats: int, threads: int):
    sides = measure_in_turn(lambda: through_train(make(), batches), lambda: run_peer(make(), batches), repeats, name)
    settings = {"repeats": repeats, "steps": len(batches), "threads": threads}
    return sides.speeds(name, peer) | {"step_time_ratio": 1 / sides.ratio} | settings


def through_train(net: nn.Module, batches: "_Repeat") -> float:
    """Two epochs with everything that train.py adds; the speed that result.json reports."""
    with tempfile.TemporaryDirectory() as folder:
        config = compose("train", ["data=fake", f"run_dir={folder}", "trainer.max_epochs=2", "trainer.accelerator=cpu"])
        plain = OmegaConf.to_container(config, resolve=True)
        assert isinstance(plain, dict)
        parts = instantiate(plain, _convert_="all", trainer=None) | {"data": _Ready(batches)}
        _, *shape = batches.batch[0].shape
        cost = count(net, (shape[0], shape[1], shape[2]))
        names = {"model": "benchmark", "backbone": "", "layer": "conv", "scope": "", "data": "fake", "seed": 1}
        run = Run(names, {str(key): value for key, value in plain.items()}, Path(folder))
        result = fit(run, parts, Built(net, [], cost, cost, None))
    assert result is not None
    return result["train_images_per_second"]


def bare_loop(net: nn.Module, batches: "_Repeat") -> float:
    """The shortest correct training loop."""
    optimizer = _sgd(net)
    net.train()
    for _ in ("warm-up", "timed"):
        start = perf_counter()
        for images, labels in batches:
            loss = F.cross_entropy(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds = perf_counter() - start
    return len(batches) * batches.batch_size / seconds


def empty_trainer(net: nn.Module, batches: "_Repeat") -> float:
    """Lightning's Trainer with nothing switched on but the clock."""
    throughput = Throughput()
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        callbacks=[throughput],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(_Bare(net), train_dataloaders=batches)
    return throughput.images_per_second


class _Bare(pl.LightningModule):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self.net(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return _sgd(self.net)


class _Repeat:
    """One batch over and over, which costs nothing to make, so that the steps alone are compared."""

    def __init__(self, batch: Batch, steps: int) -> None:
        self.batch, self.steps = batch, steps
        self.batch_size = len(batch[1])
        self.waited, self.advice = 0.0, ""

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        return repeat(self.batch, self.steps)


class _Ready(pl.LightningDataModule):
    def __init__(self, batches: _Repeat) -> None:
        super().__init__()
        self.batches, self.batch_size = batches, batches.batch_size

    def require_processes(self, world_size: int) -> None:
        """Each process has the same batches of its own."""

    def state_dict(self) -> dict[str, Any]:
        return {"classes": [], "preprocessing": None}

    def train_dataloader(self) -> _Repeat:
        return self.batches

    def val_dataloader(self) -> _Repeat:
        return _Repeat(self.batches.batch, 1)

    test_dataloader = val_dataloader


def _ready(steps: int, batch_size: int, channels: int, size: int) -> _Repeat:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch_size, channels, size, size, generator=generator)
    labels = torch.randint(10, (batch_size,), generator=generator)
    return _Repeat((images, labels), steps)


def _resnet20(config: Any) -> nn.Module:
    return instantiate(config.model.backbone)().to(memory_format=torch.channels_last)


def _one_layer() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def _sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)
