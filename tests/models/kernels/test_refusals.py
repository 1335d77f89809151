"""What the operator refuses: tensors that do not fit each other, before any kernel reads past their ends."""

import math
from typing import Any

import pytest
import torch

from models.kernels.arguments import Arguments
from models.kernels.gated_conv import gated_conv2d

FITS: dict[str, Any] = {
    "x": torch.randn(2, 6, 5, 7),
    "weight": torch.randn(8, 6, 3, 3),
    "bias": torch.randn(8),
    "gate_weight": torch.randn(1, 6, 1, 1),
    "gate_bias": torch.randn(1),
    "scale": torch.randn(8),
    "shift": torch.randn(8),
    "residual": torch.randn(2, 8, 5, 7),
    "stride": [1, 1],
    "padding": [1, 1],
    "dilation": [1, 1],
    "groups": 1,
    "gate_padding": [0, 0],
    "gate_ceiling": math.inf,
    "inner_relu": False,
    "relu": True,
}
REFUSED = [
    ("weight", torch.randn(8, 3, 3, 3), "weight of shape (8, 3, 3, 3): must be (8, 6, 3, 3) for x of (2, 6, 5, 7)"),
    ("bias", torch.randn(3), "bias of shape (3,): must be (8,)"),
    ("gate_weight", torch.randn(1, 5, 1, 1), "gate_weight of shape (1, 5, 1, 1): must be (1, 6, 1, 1)"),
    ("gate_weight", torch.randn(8, 6, 1, 1), "gate_weight of shape (8, 6, 1, 1): must be (1, 6, 1, 1)"),
    ("gate_bias", torch.randn(8), "gate_bias of shape (8,): must be (1,)"),
    ("scale", torch.randn(1), "scale of shape (1,): must be (8,)"),
    ("shift", torch.randn(16), "shift of shape (16,): must be (8,)"),
    ("residual", torch.randn(1, 8, 1, 1), "residual of shape (1, 8, 1, 1): must be (2, 8, 5, 7)"),
    ("groups", 4, "weight of shape (8, 6, 3, 3): must be (8, 1, 3, 3)"),
    ("gate_ceiling", 0.0, "gate_ceiling=0.0: must be positive; infinity for none"),
    ("gate_ceiling", math.nan, "gate_ceiling=nan: must be positive"),
]


@pytest.mark.parametrize(("name", "value", "message"), REFUSED)
def test_refusals_name_the_argument(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match="^") as refusal:
        gated_conv2d(Arguments(**FITS | {name: value}))
    assert message in str(refusal.value)


def test_groups_must_divide_the_channels() -> None:
    arguments = FITS | {"groups": 4, "weight": torch.randn(8, 1, 3, 3)}
    with pytest.raises(ValueError, match="groups=4: must divide the 6 input and the 8 output channels"):
        gated_conv2d(Arguments(**arguments))


def test_what_fits_is_computed() -> None:
    assert gated_conv2d(Arguments(**FITS)).shape == (2, 8, 5, 7)
