"""Batches, splits and their checks on real images; augmentation against its definition."""

from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from data.augment import crop, cutout, flip, mirrored, normalise
from data.digits import digits
from data.fake import fake
from data.in_memory import InMemoryData, resize
from data.loader import Loader

DIGITS = {
    "num_classes": 10,
    "input_size": 16,
    "channels": 1,
    "mean": [0.306],
    "std": [0.319],
    "crop_padding": 2,
    "flip": "random",
    "cutout": 0,
    "mixup": 0.0,
    "cutmix": 0.0,
    "batch_size": 64,
    "val_fraction": 0.1,
}


def set_up(
    load: Callable = digits,
    *,
    rank: int = 0,
    world_size: int = 1,
    epoch: int = 0,
    done: int = 0,
    overfit: int = 0,
    **changes,
) -> InMemoryData:
    data = InMemoryData(".", load, **{**DIGITS, **changes})
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        global_rank=rank,
        world_size=world_size,
        current_epoch=epoch,
        num_training_batches=overfit or 20,
        overfit_batches=overfit,
        fit_loop=SimpleNamespace(batch_idx=done - 1),
    )
    data.setup("fit")
    return data


def images(batches: Loader) -> torch.Tensor:
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
    everything = images(set_up(crop_padding=0, flip=None).train_dataloader())
    assert everything.mean().abs() < 0.02
    assert (everything.std() - 1).abs() < 0.02


def test_an_epoch_is_a_function_of_seed_and_epoch() -> None:
    torch.manual_seed(1)
    first = images(set_up(epoch=3).train_dataloader())
    assert torch.equal(first, images(set_up(epoch=3).train_dataloader()))
    assert not torch.equal(first, images(set_up(epoch=4).train_dataloader()))
    torch.manual_seed(2)
    assert not torch.equal(first, images(set_up(epoch=3).train_dataloader()))


def test_each_epoch_has_an_order_of_its_own() -> None:
    data = set_up()
    orders = [torch.cat([*data.train_dataloader().indices(epoch)]) for epoch in range(3)]
    assert all(len(order.unique()) == len(order) == 20 * 64 for order in orders)
    assert all(not torch.equal(one, other) for one, other in combinations(orders, 2))


@pytest.mark.parametrize(("world_size", "val_fraction"), [(1, 0.1), (2, 0.1), (3, 0.1), (7, 0.1), (7, 0.002)])
def test_evaluation_sees_each_image_once_on_any_number_of_processes(world_size: int, val_fraction: float) -> None:
    """Each process in as many batches, of its share of a batch; seven processes also with three images."""
    options = {"world_size": world_size, "val_fraction": val_fraction}
    batches = [list(set_up(rank=rank, **options).val_dataloader()) for rank in range(world_size)]
    assert len({len(part) for part in batches}) == 1
    sizes = [len(labels) for part in batches for _, labels in part]
    assert max(sizes) <= 64 // world_size
    assert sum(sizes) == len(set_up(**options).val_index)
    seen = torch.cat([batch for part in batches for batch, labels in part if len(labels)])
    expected = images(set_up(val_fraction=val_fraction).val_dataloader())
    torch.testing.assert_close(seen.sum(0), expected.sum(0), rtol=1e-4, atol=1e-4)


def test_processes_share_a_training_batch() -> None:
    torch.manual_seed(1)
    whole, halves = set_up(), [set_up(rank=rank, world_size=2) for rank in (0, 1)]
    labels = torch.cat([label for _, label in whole.train_dataloader()])
    shared = [torch.cat([label for _, label in half.train_dataloader()]) for half in halves]
    assert torch.equal(labels[0::2], shared[0])
    assert torch.equal(labels[1::2], shared[1])
    with pytest.raises(ValueError, match="data.batch_size=64 must be a multiple of the 3 processes; nearest: 63"):
        set_up(world_size=3).train_dataloader()


def test_an_epoch_goes_on_where_it_stopped() -> None:
    options = {"epoch": 2, "flip": "alternating", "cutout": 4, "mixup": 0.2, "cutmix": 1.0}
    straight = list(set_up(**options).train_dataloader())
    resumed = set_up(done=7, **options).train_dataloader()
    for (images_, labels), (expected, expected_labels) in zip(resumed, straight[7:], strict=True):
        assert torch.equal(images_, expected)
        assert torch.equal(labels, expected_labels)


def test_batches_to_overfit_stay_the_same() -> None:
    torch.manual_seed(1)
    first, later = (images(set_up(epoch=epoch, overfit=2).train_dataloader()) for epoch in (0, 5))
    assert torch.equal(first, later)


def test_a_sample_is_what_training_begins_with_whatever_became_of_the_generator() -> None:
    torch.manual_seed(1)
    data = set_up(epoch=3)
    expected = [batch for batch, _ in data.train_dataloader()]
    torch.manual_seed(2)
    assert torch.equal(torch.cat([batch for batch, _ in data.training_sample(100)]), torch.cat(expected[:2]))
    assert len(list(data.training_sample(10**6))) == len(expected)
    assert len(list(set_up(overfit=3).training_sample(10**6))) == 3


def test_what_happens_to_an_image_does_not_depend_on_the_number_of_processes() -> None:
    whole = images(set_up(epoch=1).train_dataloader())
    shared = [images(set_up(rank=rank, world_size=2, epoch=1).train_dataloader()) for rank in (0, 1)]
    assert torch.equal(whole[0::2], shared[0])
    assert torch.equal(whole[1::2], shared[1])


def test_mixed_labels_say_how_much_of_which_class_is_seen() -> None:
    mixed, labels = next(iter(set_up(mixup=1.0, crop_padding=0, flip=None).train_dataloader()))
    plain, classes = next(iter(set_up(crop_padding=0, flip=None).train_dataloader()))
    assert labels.shape == (64, 10)
    share = labels.gather(1, classes[:, None])[:, 0]
    share = share[classes != classes.roll(1)][0]  # of two different classes; the same in the whole batch
    torch.testing.assert_close(mixed, share * plain + (1 - share) * plain.roll(1, 0), rtol=1e-4, atol=1e-4)


def test_mismatches_are_explained() -> None:
    with pytest.raises(ValueError, match="data.num_classes=7, but the labels run from 0 to 9"):
        set_up(num_classes=7)
    with pytest.raises(ValueError, match="data.num_classes=12, but the labels run from 0 to 9"):
        set_up(num_classes=12)
    with pytest.raises(ValueError, match="data.channels=3, but the images have 1"):
        set_up(channels=3, mean=[0.3] * 3, std=[0.3] * 3)
    with pytest.raises(ValueError, match="data.batch_size=2000: there are only 1293 training images"):
        set_up(batch_size=2000).train_dataloader()
    with pytest.raises(ValueError, match="data.batch_size=0: must be at least 1"):
        set_up(batch_size=0)
    with pytest.raises(ValueError, match="data.val_fraction=1.0: must lie between 0 and 1"):
        set_up(val_fraction=1.0)
    with pytest.raises(ValueError, match="data.cutout=17: must lie between 0 .none. and data.input_size=16"):
        set_up(cutout=17)
    with pytest.raises(ValueError, match="data.crop_padding=-1: must lie between 0 .none. and data.input_size=16"):
        set_up(crop_padding=-1)
    with pytest.raises(ValueError, match="data.std=.0.0.: must be positive"):
        set_up(std=[0.0])
    with pytest.raises(ValueError, match="data.mixup=-1: must be 0"):
        set_up(mixup=-1)
    with pytest.raises(ValueError, match="data.load.num_images=5: at least one for each of the 10 classes"):
        set_up(partial(fake, num_images=5, num_classes=10, input_size=16, channels=1))


def test_crops_are_the_asked_windows_of_the_padded_image() -> None:
    batch = torch.randint(1, 256, (200, 2, 6, 6), dtype=torch.uint8)
    corners = torch.randint(3, (200, 2))
    padded = torch.nn.functional.pad(batch, (1, 1, 1, 1))
    for image, (top, left), cropped in zip(padded, corners.tolist(), crop(batch, 1, corners), strict=True):
        assert torch.equal(cropped, image[:, top : top + 6, left : left + 6])


def test_flips_mirror_the_asked_images() -> None:
    batch = torch.randint(256, (3, 1, 4, 4), dtype=torch.uint8)
    flipped = flip(batch, torch.tensor([True, False, True]))
    assert torch.equal(flipped, torch.stack([batch[0].flip(2), batch[1], batch[2].flip(2)]))


def test_flips_are_random_or_alternate() -> None:
    random, alternating = ([mirrored(1000, kind, 7, epoch) for epoch in range(3)] for kind in ("random", "alternating"))
    for draw in (*random, *alternating):
        assert 440 < draw.sum() < 560
    assert 400 < (random[0] != random[1]).sum() < 600
    assert torch.equal(alternating[0], ~alternating[1])
    assert torch.equal(alternating[0], alternating[2])


def test_cutout_zeroes_one_square_a_part_of_it_outside() -> None:
    cut = cutout(torch.ones(3, 2, 8, 8), 4, torch.tensor([[4, 4], [0, 0], [7, 4]]))
    assert (cut == 0).sum((1, 2, 3)).tolist() == [2 * 16, 2 * 4, 2 * 12]
    assert cut[0, :, 2:6, 2:6].sum() == 0
    assert cut[1, :, :2, :2].sum() == 0


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
