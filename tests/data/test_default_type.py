"""Images do not depend on the process's default type or device, which a Trainer's precision may change."""

from collections.abc import Callable

import pytest
import torch

from tests.data.test_in_memory import images, set_up


def under(change: Callable[[], None]) -> torch.Tensor:
    change()
    try:
        return images(set_up(epoch=1, cutout=4).train_dataloader())
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_the_default_type_changes_no_image(dtype: torch.dtype) -> None:
    expected = images(set_up(epoch=1, cutout=4).train_dataloader())
    found = under(lambda: torch.set_default_dtype(dtype))
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_the_default_device_changes_no_image() -> None:
    expected = images(set_up(epoch=1, cutout=4).train_dataloader())
    assert torch.equal(under(lambda: torch.set_default_device("meta")), expected)
