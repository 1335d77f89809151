"""A rebuilt network that starts from a plain one: what is copied, what is approximated, and what is told."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from models import scope
from models.backbones.cifar_resnet import cifar_resnet
from models.build import Input, build
from models.convert import MOST_IMAGES, calibrate, start_from
from models.geometry import ConvGeometry
from models.layers.bases import Bases
from models.layers.grouped import Grouped
from models.layers.lccl import LCCL
from models.layers.shift import Shift
from models.layers.sic import SIC
from models.rebuild import Layer

SMALL = Input(num_classes=10, size=16, channels=3)


def network(layer: Layer = nn.Conv2d, input: Input = SMALL) -> nn.Module:
    return build(partial(cifar_resnet, depth=8), layer, scope.spatial, input).net


@pytest.fixture
def source() -> nn.Module:
    """A network whose norms have statistics and weights of their own, as after training."""
    net = network()
    for _ in range(3):
        net.train()(torch.randn(32, 3, 16, 16))
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.3)
    return net.eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(24, 3, 16, 16)


def test_complete_bases_are_the_source(source: nn.Module, images: Tensor) -> None:
    net = network()
    for name, conv in [*net.named_modules()]:  # not by a rebuild: they cost more than the convolutions
        if isinstance(conv, nn.Conv2d) and name != "conv":
            net.set_submodule(name, Bases(*ConvGeometry.of(conv).arguments(), num_bases=9))
    start = start_from(net, source)
    assert len(start.approximated) == 6
    torch.testing.assert_close(net.eval()(images), source(images), rtol=0, atol=1e-4)
    start = calibrate(net, source, start, images)
    torch.testing.assert_close(net(images), source(images), rtol=0, atol=1e-4)
    assert max(start.errors.values()) < 1e-5


@pytest.mark.parametrize("layer", [partial(Bases, num_bases=1), SIC, Grouped, LCCL], ids=str)
def test_a_calibrated_start_is_nearer_to_the_source(layer, source: nn.Module, images: Tensor) -> None:
    net, others = network(layer), torch.randn(64, 3, 16, 16)
    expected = source(others)

    def distance() -> float:
        return (net.eval()(others) - expected).norm().item()

    at_random = distance()
    start = start_from(net, source)
    by_weights = distance()
    start = calibrate(net, source, start, images)
    assert distance() < min(at_random, by_weights)
    assert list(start.errors) == start.approximated
    assert all(0 < error < 1.5 for error in start.errors.values())


def test_what_shifted_is_taken_off_by_the_norms_behind(source: nn.Module, images: Tensor) -> None:
    net = network(SIC)
    calibrate(net, source, start_from(net, source), images)
    means: list[Tensor] = []
    for one in (net, source):
        for name in ("stage1.0.norm1", "stage3.0.norm2"):
            one.get_submodule(name).register_forward_hook(lambda _, __, output: means.append(output.mean((0, 2, 3))))
        one(images)
    torch.testing.assert_close(means[:2], means[2:], rtol=0, atol=1e-3)


def test_layers_without_an_approximation_are_named_and_fresh(source: nn.Module, images: Tensor) -> None:
    net = network(Shift)
    before = {name: weights.clone() for name, weights in net.state_dict().items()}
    start = start_from(net, source)
    assert not start.approximated
    assert "stage1.0.conv1" in start.unlike
    kept = [name for name, weights in net.state_dict().items() if torch.equal(weights, before[name])]
    assert "stage1.0.conv1.expand.weight" in kept
    assert "stage1.0.norm1.weight" not in kept
    assert list(calibrate(net, source, start, images).errors) == start.unlike


def test_another_number_of_classes_starts_anew(source: nn.Module, images: Tensor) -> None:
    net = network(Grouped, Input(num_classes=4, size=16, channels=3))
    start = start_from(net, source)
    assert start.anew == ["fc.weight", "fc.bias"]
    assert calibrate(net, source, start, images).errors
    assert net(images).shape == (24, 4)


def test_the_same_layers_are_copied(source: nn.Module) -> None:
    made, again = network(SIC), network(SIC)
    start_from(made, source)
    assert start_from(again, made).approximated == []
    assert all(torch.equal(one, other) for one, other in zip(made.parameters(), again.parameters(), strict=True))


def test_another_network_is_refused_by_the_first_weight_that_differs(source: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"conv.weight is \(16, 3, 3, 3\) in the network to start from and \(16, 1, 3"):
        start_from(network(input=Input(num_classes=10, size=16, channels=1)), source)
    with pytest.raises(ValueError, match=r"stage1.0.conv1.weight is missing in the network to start from"):
        start_from(source, network(SIC))
    deeper = build(partial(cifar_resnet, depth=14), nn.Conv2d, scope.spatial, SMALL).net
    with pytest.raises(ValueError, match="stage1.1.conv1.weight is missing in the network to start from"):
        start_from(deeper, source)


def test_no_more_images_than_are_needed(source: nn.Module) -> None:
    seen: list[int] = []
    source.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    net = network(Grouped)
    calibrate(net, source, start_from(net, source), torch.randn(MOST_IMAGES + 8, 3, 16, 16))
    assert seen == [1, MOST_IMAGES]
