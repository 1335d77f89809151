"""Hooks on modules: they see what goes in and comes out, and go when the block ends."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.watch import watched


class Sum(nn.Module):
    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return x + other


def hooks(module: nn.Module) -> int:
    return len(module._forward_hooks) + len(module._forward_pre_hooks)


def test_inputs_and_outputs_are_seen_in_order() -> None:
    add, relu, seen = Sum(), nn.ReLU(), []

    def before(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append((name, "before", [x.item() for x in inputs]))

    def after(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> str:
        seen.append((name, "after", [x.item() for x in inputs], output.item()))
        return "not an output"

    with watched({"add": add, "relu": relu}, before=before, after=after):
        assert relu(add(torch.tensor(1), other=torch.tensor(-3))) == 0
    assert seen == [
        ("add", "before", [1, -3]),
        ("add", "after", [1, -3], -2),
        ("relu", "before", [-2]),
        ("relu", "after", [-2], 0),
    ]
    assert hooks(add) + hooks(relu) == 0


def test_an_error_leaves_no_hook() -> None:
    add = Sum()
    with pytest.raises(ZeroDivisionError), watched({"add": add}, before=lambda name, module, inputs: 1 / 0):
        add(1, 2)
    with pytest.raises(AttributeError), watched({"add": add, "none": None}, after=print):  # type: ignore[dict-item]
        pass
    assert hooks(add) == 0
