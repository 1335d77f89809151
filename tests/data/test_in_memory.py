"""Batches, splits and their checks on real images; augmentation against its definition."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from data.augment import normalise, random_crop, random_flip
from data.digits import digits
from data.fake import fake
from data.in_memory import Batches, InMemoryData, resize

DIGITS = {
    "num_classes": 10,
    "input_size": 16,
    "channels": 1,
    "mean": [0.306],
    "std": [0.319],
    "crop_padding": 2,
    "flip": True,
    "batch_size": 64,
    "val_fraction": 0.1,
}


def set_up(load: Callable = digits, *, rank: int = 0, world_size: int = 1, epoch: int = 0, **changes) -> InMemoryData:
    data = InMemoryData(".", load, **{**DIGITS, **changes})
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(strategy=strategy, global_rank=rank, world_size=world_size, current_epoch=epoch)  # type: ignore[assignment]
    data.setup("fit")
    return data


def images(batches: Batches) -> torch.Tensor:
    return torch.cat([batch for batch, _ in batches])


def test_splits_are_disjoint_fixed_and_complete() -> None:
    torch.manual_seed(1)
    first = set_up()
    torch.manual_seed(2)
    second = set_up()
    assert torch.equal(first.val_index, second.val_index)
    together = torch.cat([first.train_index, first.val_index])
    assert sorted(together.tolist()) == list(range(1437))
    assert len(first.val_index) == 144
    assert sum(len(labels) for _, labels in first.test_dataloader()) == 360


def test_batches_are_normalised_float_images_of_the_input_size() -> None:
    batch, labels = next(iter(set_up().train_dataloader()))
    assert (batch.shape, batch.dtype, labels.dtype) == ((64, 1, 16, 16), torch.float32, torch.int64)
    everything = images(set_up(crop_padding=0, flip=False).train_dataloader())
    assert everything.mean().abs() < 0.02
    assert (everything.std() - 1).abs() < 0.02


def test_an_epoch_is_a_function_of_seed_and_epoch() -> None:
    torch.manual_seed(1)
    first = images(set_up(epoch=3).train_dataloader())
    assert torch.equal(first, images(set_up(epoch=3).train_dataloader()))
    assert not torch.equal(first, images(set_up(epoch=4).train_dataloader()))
    torch.manual_seed(2)
    assert not torch.equal(first, images(set_up(epoch=3).train_dataloader()))


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_evaluation_sees_each_image_once_on_any_number_of_processes(world_size: int) -> None:
    seen = [images(set_up(rank=rank, world_size=world_size).test_dataloader()) for rank in range(world_size)]
    expected = images(set_up().test_dataloader())
    together = torch.cat(seen)
    assert together.shape == expected.shape
    assert torch.equal(together.sum(0), expected.sum(0)) or torch.allclose(together.sum(0), expected.sum(0), rtol=1e-4)


def test_processes_share_a_training_batch() -> None:
    torch.manual_seed(1)
    whole, halves = set_up(), [set_up(rank=rank, world_size=2) for rank in (0, 1)]
    labels = torch.cat([label for _, label in whole.train_dataloader()])
    shared = [torch.cat([label for _, label in half.train_dataloader()]) for half in halves]
    assert torch.equal(labels[0::2], shared[0])
    assert torch.equal(labels[1::2], shared[1])
    with pytest.raises(ValueError, match="data.batch_size=64 must be a multiple of the 3 processes"):
        set_up(world_size=3).train_dataloader()


def test_mismatches_are_explained() -> None:
    with pytest.raises(ValueError, match="data.num_classes=7, but the labels run from 0 to 9"):
        set_up(num_classes=7)
    with pytest.raises(ValueError, match="data.num_classes=12, but the labels run from 0 to 9"):
        set_up(num_classes=12)
    with pytest.raises(ValueError, match="data.channels=3, but the images have 1"):
        set_up(channels=3, mean=[0.3] * 3, std=[0.3] * 3)
    with pytest.raises(ValueError, match="data.batch_size=2000: there are only 1293 training images"):
        set_up(batch_size=2000).train_dataloader()
    with pytest.raises(ValueError, match="data.val_fraction=1.0: must lie between 0 and 1"):
        set_up(val_fraction=1.0)
    with pytest.raises(ValueError, match="data.load.num_images=5: at least one for each of the 10 classes"):
        set_up(partial(fake, num_images=5, num_classes=10, input_size=16, channels=1))


def test_crops_are_windows_of_the_padded_image() -> None:
    generator = torch.Generator().manual_seed(0)
    batch = torch.randint(1, 256, (200, 2, 6, 6), dtype=torch.uint8)
    crops = random_crop(batch, 1, generator)
    found = set()
    for image, crop in zip(torch.nn.functional.pad(batch, (1, 1, 1, 1)), crops, strict=True):
        windows = [(y, x) for y in range(3) for x in range(3) if torch.equal(image[:, y : y + 6, x : x + 6], crop)]
        assert len(windows) == 1
        found.update(windows)
    assert len(found) == 9  # every window occurs


def test_flips_mirror_about_half_of_the_images() -> None:
    batch = torch.randint(256, (1000, 1, 4, 4), dtype=torch.uint8)
    flipped = random_flip(batch, torch.Generator().manual_seed(0))
    mirrored = (flipped == batch.flip(3)).flatten(1).all(1)
    assert 440 < mirrored.sum() < 560
    assert torch.equal(flipped[~mirrored], batch[~mirrored])


def test_normalise_is_channelwise() -> None:
    batch = torch.randint(256, (3, 2, 4, 4), dtype=torch.uint8)
    expected = (batch.double() / 255 - torch.tensor([0.2, 0.4])[:, None, None]) / torch.tensor([0.5, 0.25])[
        :, None, None
    ]
    torch.testing.assert_close(normalise(batch, [0.2, 0.4], [0.5, 0.25]).double(), expected, rtol=1e-5, atol=1e-6)


def test_resize_keeps_flat_images_flat() -> None:
    flat = torch.full((2, 1, 8, 8), 77, dtype=torch.uint8)
    assert torch.equal(resize(flat, 16), torch.full((2, 1, 16, 16), 77, dtype=torch.uint8))
    assert resize(flat, 8) is flat


def test_digits_are_the_real_ones() -> None:
    arrays = digits(Path("unused"))
    assert torch.cat([arrays.train_labels, arrays.test_labels]).bincount().tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180,
    ]  # fmt: skip
