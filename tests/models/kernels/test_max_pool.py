"""Max pooling against PyTorch's."""

import math
import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.inference.deploy import deploy
from models.kernels import max_pool
from models.kernels.max_pool import MaxPool

needs_compiler = pytest.mark.skipif(max_pool.library() is None, reason="no C compiler")


def drawn(seed: int) -> tuple[MaxPool, Tensor]:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    kernel, stride, dilation = (
        (draw.randint(1, most), draw.randint(1, most)) if draw.random() < 0.5 else draw.randint(1, most)
        for most in (5, 4, 3)
    )
    least = min(kernel) if isinstance(kernel, tuple) else kernel
    pool = MaxPool(nn.MaxPool2d(kernel, stride, draw.randint(0, least // 2), dilation, ceil_mode=draw.random() < 0.5))
    size = [draw.randint(13, 30) for _ in (0, 1)]
    x = torch.randn(draw.randint(1, 3), draw.choice([1, 3, 16, 33]), *size)
    return pool, x.contiguous(memory_format=torch.channels_last)


@needs_compiler
@torch.no_grad()
@pytest.mark.parametrize("start", range(0, 300, 100))
def test_computes_what_pytorch_does(start: int) -> None:
    for seed in range(start, start + 100):
        pool, x = drawn(seed)
        assert pool._can_run(x)
        torch.set_num_threads(1 + seed % 2)
        found = pool(x)
        torch.set_num_threads(1)
        assert torch.equal(found, pool.pool(x)), (pool, x.shape)


@needs_compiler
@torch.no_grad()
def test_nan_and_infinity_pass() -> None:
    x = torch.randn(1, 5, 12, 12).contiguous(memory_format=torch.channels_last)
    x[0, 0, 3, 4], x[0, 1, 5, 5], x[0, 2] = math.nan, math.inf, -math.inf
    found, wanted = MaxPool(nn.MaxPool2d(3, 2, 1))(x), F.max_pool2d(x, 3, 2, 1)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)


@torch.no_grad()
def test_anything_else_is_pytorch_s() -> None:
    pool, x = MaxPool(nn.MaxPool2d(3, 2, 1)), torch.randn(2, 8, 11, 11)
    for given in (x, x.double(), x.bfloat16(), x[:0], x[0], x.contiguous(memory_format=torch.channels_last)):
        assert torch.equal(pool(given), F.max_pool2d(given, 3, 2, 1))
    with pytest.raises(RuntimeError, match="Output size is too small"):
        MaxPool(nn.MaxPool2d(5))(torch.randn(1, 1, 3, 3))
    with pytest.raises(RuntimeError, match="pad should be at most half"):
        MaxPool(nn.MaxPool2d(2, padding=2))(x.contiguous(memory_format=torch.channels_last))


def test_gradients_are_pytorch_s() -> None:
    x = torch.randn(2, 8, 11, 11).contiguous(memory_format=torch.channels_last).requires_grad_()
    MaxPool(nn.MaxPool2d(3, 2, 1))(x).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("given", [{}, {"ceil_mode": True}, {"return_indices": True}])
def test_deploy_pools_with_it_where_no_indices_are_asked_for(given: dict[str, Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv2d(3, 8, 3), nn.MaxPool2d(3, 2, 1, **given)

        def forward(self, x: Tensor) -> Tensor:
            y = self.pool(self.conv(x))
            return y[0] if "return_indices" in given else y

    net, x = Net().eval(), torch.randn(2, 3, 12, 12)
    deployed = deploy(net)
    assert any(isinstance(module, MaxPool) for module in deployed.modules()) == ("return_indices" not in given)
    with torch.no_grad():
        torch.testing.assert_close(deployed(x), net(x), rtol=1e-5, atol=1e-5)
