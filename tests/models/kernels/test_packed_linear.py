"""The packed linear layer against PyTorch's."""

import pytest
import torch
from torch import nn

from models.cost import count
from models.inference.deploy import deploy
from models.kernels import packed_linear
from models.kernels.packed_linear import PackedLinear

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN")


@needs_onednn
@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("images", [1, 4, 5, 33])
def test_computes_what_pytorch_does(images: int, bias: bool) -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(700, 300, bias=bias), torch.randn(images, 700)
    packed = PackedLinear(linear)
    assert packed._pays(x) == (images >= packed_linear.FEW)
    torch.testing.assert_close(packed(x), linear(x), rtol=1e-4, atol=1e-5)


@needs_onednn
@torch.no_grad()
def test_weights_written_in_place_are_seen() -> None:
    packed, x = PackedLinear(nn.Linear(700, 300)), torch.randn(8, 700)
    before = packed(x)
    packed.weight.mul_(2)
    packed.bias.mul_(2)
    torch.testing.assert_close(packed(x), 2 * before, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(packed(x[:4]), 2 * before[:4], rtol=1e-4, atol=1e-5)


def test_anything_else_is_pytorch_s() -> None:
    linear = nn.Linear(700, 300).requires_grad_(False)
    packed, x = PackedLinear(linear), torch.randn(8, 700)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        packed(torch.randn(8, 699))
    for given in (x[0], x[None], x[:0]):
        assert torch.equal(packed(given), linear(given))
    for dtype in (torch.double, torch.bfloat16):
        assert torch.equal(packed.to(dtype)(x.to(dtype)), linear.to(dtype)(x.to(dtype)))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(found := packed.float()(x), linear.float()(x))
        assert found.dtype == torch.bfloat16
    with_gradient = x.clone().requires_grad_()
    packed.float()(with_gradient).sum().backward()
    assert with_gradient.grad is not None


@needs_onednn
@torch.no_grad()
def test_deploy_uses_it_and_it_counts_as_a_linear_layer() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 200), nn.ReLU(), nn.Linear(200, 10)).eval()
    deployed, x = deploy(net), torch.randn(8, 3, 16, 16)
    assert [type(module) for module in deployed.children() if isinstance(module, nn.Linear)] == 2 * [PackedLinear]
    torch.testing.assert_close(deployed(x), net(x), rtol=1e-4, atol=1e-5)
    assert count(deployed, (3, 16, 16)).macs == count(net, (3, 16, 16)).macs == 3 * 16 * 16 * 200 + 200 * 10


@torch.no_grad()
@pytest.mark.parametrize("part", [nn.MaxPool2d(2), nn.Linear(8, 8)])
def test_what_somebody_hooked_stays(part: nn.Module) -> None:
    seen = []
    net = nn.Sequential(part).eval()
    part.register_forward_hook(lambda *_: seen.append(1))
    deploy(net)(torch.randn(1, 3, 8, 8).contiguous(memory_format=torch.channels_last))
    assert seen
