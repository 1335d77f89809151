"""A batch some images at a time: the same logits, and the size that took the least time."""

import pytest
import torch
from torch import Tensor, nn

from models.inference import slices
from models.inference.slices import Slices, in_slices


@pytest.mark.parametrize("batch", [0, 1, 3, 4, 9])
def test_computes_the_same(batch: int) -> None:
    net, images = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 5)), torch.randn(batch, 3, 4, 4)
    torch.testing.assert_close(Slices(net, 4)(images), net(images))


@pytest.mark.parametrize(
    ("seconds", "size"),
    [
        ({8: 10.0, 4: 6.0, 2: 5.0, 1: 7.0}, 2),
        ({8: 5.0, 4: 4.95, 2: 4.9, 1: 7.0}, 8),  # so little may be chance
        ({8: 5.0, 4: 4.8, 2: 4.75, 1: 7.0}, 4),
    ],
)
def test_takes_the_size_that_is_fastest(monkeypatch, seconds: dict[int, float], size: int) -> None:
    """A clock that each call of the network moves on."""
    now = [0.0]

    class Net(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            now[0] += seconds[len(images)] * len(images) / 8
            return images

    monkeypatch.setattr(slices, "perf_counter", lambda: now[0])
    assert in_slices(Net(), torch.zeros(8, 2)).size == size


def test_one_image_is_one_slice() -> None:
    assert in_slices(nn.Identity(), torch.zeros(1, 2)).size == 1
