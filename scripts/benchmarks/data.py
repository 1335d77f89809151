"""benchmark=data: our input pipelines beside torchvision's and timm's, in images a second.

Both sides of a row run in turn, `repeats` times, each over the same number of images of the same files: real
photographs as JPEGs of 500 x 375, and Fashion-MNIST. A ratio is
the median over the pairs, with the smallest and largest. Where nothing but this process works (`workers` 0), a
second is one of its own computing time, so that a row is images a second of one core.
"""

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose
from hydra.utils import instantiate
from PIL import Image
from timm.data import create_loader
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from data.image_data import ImageData
from data.in_memory import InMemoryData
from data.loader import Loader
from scripts.benchmarks.photographs import write_photographs
from scripts.benchmarks.side_by_side import measure_in_turn

log = logging.getLogger(__name__)
Batches = Iterable[tuple[Tensor, Tensor]]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SIZE = 224


def rows(
    *, photographs: int, images: int, batch_size: int, workers: int, repeats: int, threads: int
) -> Iterator[dict[str, Any]]:
    """Rows of `images` decoded by `workers` processes on each side (0: by the one that trains)."""
    torch.set_num_threads(threads)
    settings = {"repeats": repeats, "threads": threads}
    yield _in_memory(batch_size, settings)
    with tempfile.TemporaryDirectory() as folder:
        log.info(f"making {photographs + images:,} photographs, then timing each side {repeats} times in each row")
        write_photographs(Path(folder), photographs, images)
        ours = _ours(
            "image_folder", batch_size, f"data.root={folder}", "data.num_classes=6", f"data.num_workers={workers}"
        )
        train, val = Path(folder) / "train", Path(folder) / "val"
        decoded = {"steps": images // batch_size, "workers": workers, **settings}
        crops = _torchvision(train, _training_transforms(), batch_size, workers, shuffle=True)
        centres = _torchvision(val, _val_transforms(), batch_size, workers, shuffle=False)
        timm = _timm(train, batch_size, workers)
        handed, normalised = _handed_over(ours), ours.train_dataloader()
        yield _row("training_crops_handed_to_device", "torchvision ImageFolder", handed, crops, **decoded)
        yield _row("training_crops_handed_to_device", "timm create_loader", handed, timm.loader, **decoded)
        yield _row("training_crops_normalised_on_cpu", "torchvision ImageFolder", normalised, crops, **decoded)
        yield _row("training_crops_normalised_on_cpu", "timm create_loader", normalised, timm, **decoded)
        tested = ours.test_dataloader()
        last = _row("validation_normalised_on_cpu", "torchvision ImageFolder", tested, centres, **decoded)
        difference = _pixel_difference(ours.test_dataloader(), centres)
        yield last | {"agreement": f"mean absolute difference {difference:.4f} of 255"}


def _row(name: str, peer: str, ours: Batches, theirs: Batches, *, steps: int, workers: int, repeats: int, threads: int):
    clock = process_time if workers == 0 else perf_counter
    title = f"{name} beside {peer}"
    sides = measure_in_turn(lambda: speed(ours, steps, clock), lambda: speed(theirs, steps, clock), repeats, title)
    settings = {"workers": workers, "threads": threads, "repeats": repeats}
    return sides.speeds(name, peer) | settings | {"agreement": ""}


def speed(batches: Batches, steps: int, clock: Callable[[], float]) -> float:
    """Images a second of the `steps` batches after the first, in which workers start."""
    iterator = iter(batches)
    next(iterator)
    start = clock()
    count = sum(len(labels) for _, labels in islice(iterator, steps))
    return count / (clock() - start)


def _ours(data: str, batch_size: int, *overrides: str) -> Any:
    config = compose("train", [f"data={data}", f"data.batch_size={batch_size}", *overrides])
    module = instantiate(config.data, _convert_="all")
    torch.manual_seed(1)
    module.trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, max_epochs=1)
    module.setup("fit")
    return module


def _handed_over(data: ImageData) -> Loader:
    """What a device is handed: decoded, cropped and batched, to be normalised there."""
    samples = data.training_samples(1)
    return data.train_loader(len(samples), data.decode(samples, data.training_size, "train"), advice="")


def _in_memory(batch_size: int, settings: dict[str, int]) -> dict[str, Any]:
    """Fashion-MNIST, padded from 28 to 36 pixels, random windows of 32, flipped: each side in its own way."""
    ours: InMemoryData = _ours("fashion_mnist", batch_size)
    assert ours.arrays is not None
    images, labels = ours.arrays.train_images[:, 0, 2:-2, 2:-2], ours.arrays.train_labels
    peer = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(ours.mean, ours.std),
        ]
    )
    theirs = DataLoader(_Pictures(images, labels, peer), batch_size, shuffle=True, num_workers=2, drop_last=True)
    steps = 400
    row = _row(
        "in_memory_crop_flip_28_to_32",
        "torchvision DataLoader",
        ours.train_dataloader(),
        theirs,
        steps=steps,
        workers=2,
        **settings,
    )
    (mean, std), (peer_mean, peer_std) = (_statistics(side, steps) for side in (ours.train_dataloader(), theirs))
    return row | {"agreement": f"mean {mean:.4f} and {peer_mean:.4f}, std {std:.4f} and {peer_std:.4f}"}


class _Pictures(Dataset):
    """As torchvision's FashionMNIST: an array in memory, made a PIL image, transformed."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable[[Image.Image], Tensor]) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index].numpy())), int(self.labels[index])


def _training_transforms() -> Callable:
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def _val_transforms() -> Callable:
    return transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(SIZE), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    )


def _torchvision(folder: Path, transform: Callable, batch_size: int, workers: int, *, shuffle: bool) -> DataLoader:
    return DataLoader(ImageFolder(str(folder), transform), batch_size, shuffle=shuffle, num_workers=workers)


def _timm(folder: Path, batch_size: int, workers: int) -> Any:
    """timm's loader with its prefetcher and the same augmentation."""
    return create_loader(
        ImageFolder(str(folder)),  # pyright: ignore[reportArgumentType] (it works, and is what timm's own classes do)
        input_size=(3, SIZE, SIZE),
        batch_size=batch_size,
        is_training=True,
        color_jitter=0.0,
        interpolation="bilinear",
        num_workers=workers,
        mean=tuple(MEAN),
        std=tuple(STD),
        pin_memory=False,
        persistent_workers=False,
        device=torch.device("cpu"),
    )


def _statistics(batches: Batches, steps: int) -> tuple[float, float]:
    images = torch.cat([images for images, _ in islice(iter(batches), steps)])
    return images.mean().item(), images.std().item()


def _pixel_difference(ours: Batches, theirs: Batches) -> float:
    """Mean absolute difference of one batch, in grey levels of 0 to 255."""
    (a, _), (b, _) = next(iter(ours)), next(iter(theirs))
    return float((255 * (a - b).abs() * torch.tensor(STD)[:, None, None]).mean())
