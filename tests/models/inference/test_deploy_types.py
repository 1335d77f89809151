"""Types, devices, layouts and sizes: deployed, a network takes what it took and returns what it returned."""

import copy
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, fx, nn

from models.inference.deploy import deploy
from models.layers.channelwise import ChannelWise
from models.layers.ghost import Ghost
from models.layers.lccl import LCCL
from models.layers.shift import Shift
from models.layers.sic import SIC
from models.layers.spatial_bottleneck import SpatialBottleneck
from models.layers.subdivided import Subdivided
from tests.models.inference.deployed import assert_same, live_in

LAYERS = (
    *(nn.Conv2d, LCCL, partial(LCCL, unit="product"), Subdivided, partial(SIC, projection=Subdivided)),
    *(SpatialBottleneck, Ghost, Shift, ChannelWise),
)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """One convolution of each kind that deploy treats in its own way."""
    parts: list[nn.Module] = [nn.Conv2d(3, 16, 3, 2, 1)]
    for layer in LAYERS:
        parts += [layer(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    torch.manual_seed(0)
    made = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
    return live_in(made, torch.randn(8, 3, 16, 16))


@pytest.fixture(scope="module")
def deployed(net: nn.Module) -> fx.GraphModule:
    return deploy(net)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


IMAGES: dict[str, Tensor] = {
    "one": torch.randn(1, 3, 16, 16),
    "none": torch.randn(0, 3, 16, 16),
    "odd": torch.randn(3, 3, 15, 17),
    "channels last": torch.randn(2, 3, 16, 16).contiguous(memory_format=torch.channels_last),
    "turned": torch.randn(2, 3, 16, 14).mT,
    "expanded": torch.randn(1, 1, 16, 16).expand(2, 3, -1, -1),
}


@pytest.mark.parametrize("images", IMAGES)
def test_images_of_any_size_and_layout(net: nn.Module, deployed: fx.GraphModule, images: str) -> None:
    x = IMAGES[images]
    for _ in range(2):
        torch.testing.assert_close(deployed(x), net(x), rtol=1e-4, atol=1e-4)
    with torch.inference_mode():
        torch.testing.assert_close(deployed(x.clone()), net(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "rounding"),
    [(torch.float16, 1e-2), (torch.bfloat16, 8e-2), (torch.float32, 1e-5), (torch.float64, 1e-13)],
)
def test_networks_of_any_precision(net: nn.Module, dtype: torch.dtype, rounding: float) -> None:
    exact, other = copy.deepcopy(net).to(dtype).double(), copy.deepcopy(net).to(dtype)
    x = torch.randn(4, 3, 16, 16, dtype=dtype)
    got = deploy(other)(x)
    assert got.dtype == dtype
    assert_same(got.double(), exact(x.double()), rounding)


@pytest.mark.parametrize("default", [torch.float16, torch.bfloat16, torch.float64])
def test_the_default_type_changes_nothing(net: nn.Module, deployed: fx.GraphModule, default: torch.dtype) -> None:
    x = torch.randn(2, 3, 16, 16)
    expected = deployed(x)
    torch.set_default_dtype(default)
    try:
        assert torch.equal(deployed(x), expected)
        assert torch.equal(deploy(net)(x), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
def test_autocast(net: nn.Module, deployed: fx.GraphModule, given: torch.dtype) -> None:
    x = torch.randn(4, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        expected, got = net(x.to(given)), deployed(x.to(given))
    assert got.dtype == expected.dtype
    assert_same(got.float(), net(x), rounding=8e-2)


def test_a_network_deployed_under_autocast_is_no_less_precise(net: nn.Module, deployed: fx.GraphModule) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        made = deploy(net)
    x = torch.randn(2, 3, 16, 16)
    assert_same(made(x), deployed(x), rounding=1e-5)


def test_another_device(net: nn.Module) -> None:
    out = deploy(copy.deepcopy(net).to("meta"))(torch.empty(2, 3, 16, 16, device="meta"))
    assert (out.device.type, out.shape, out.dtype) == ("meta", (2, 5), torch.float32)
