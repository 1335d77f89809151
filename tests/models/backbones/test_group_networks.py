"""All-CNN-C and the ResNet on z2, p4 and p4m: published sizes, what turning an image does, training."""

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.all_cnn import all_cnn
from models.backbones.group_resnet import group_resnet
from models.build import Built, build, paper_input

# Parameters of the networks of Cohen & Welling 2016: 1.37, 1.37, 1.22, 2.64 and 2.62 M there.
PARAMETERS = {
    "all_cnn_c": 1_372_254,
    "p4_all_cnn_c": 1_371_006,
    "p4m_all_cnn_c": 1_219_678,
    "z2_resnet44": 2_639_434,
    "p4m_resnet44": 2_622_878,
}


@pytest.fixture
def built(composed):
    """built("all_cnn_c", ...): the preset, built on the meta device for its paper's input."""

    def built_(preset: str, *overrides: str) -> Built:
        model = instantiate(composed(f"model={preset}", *overrides).model, _convert_="all")
        with torch.device("meta"):
            return build(**model, input=paper_input(model["backbone"]))

    return built_


@pytest.mark.parametrize("preset", PARAMETERS)
def test_published_parameters_to_the_unit(built, preset: str) -> None:
    assert built(preset).cost.params == PARAMETERS[preset]


def test_the_price_of_a_group_is_in_macs(built) -> None:
    """|H| MACs for each weight and position: four and eight times the plane's at about equal parameters."""
    plane, p4, p4m = (built(name).cost.macs for name in ("all_cnn_c", "p4_all_cnn_c", "p4m_all_cnn_c"))
    assert p4 / plane == pytest.approx(4, rel=0.01)
    assert p4m / plane == pytest.approx(8 * PARAMETERS["p4m_all_cnn_c"] / PARAMETERS["all_cnn_c"], rel=0.01)


def test_only_the_plane_is_rebuilt(built) -> None:
    assert sum(swap.replaced for swap in built("z2_resnet44", "model/layer=sic").swaps) == 42
    with pytest.raises(ValueError, match="no nn.Conv2d to replace"):
        built("p4m_resnet44", "model/layer=sic")


def turned(x: Tensor) -> list[Tensor]:
    """The eight quarter turns and mirrorings of images."""
    return [torch.rot90(mirrored, r, (2, 3)) for mirrored in (x, x.flip(3)) for r in range(4)]


def lively(net: nn.Module) -> nn.Module:
    """In evaluation mode and float64, with batch norms and biases that are not the identity."""
    for parameter in net.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return net.double().eval()


def spread(net: nn.Module, images: list[Tensor]) -> float:
    """The largest difference of logits from the first image's, of their size."""
    first, *others = (net(image) for image in images)
    return max(((other - first).abs().max() / first.abs().max()).item() for other in others)


X = torch.linspace(-1, 1, 3 * 37 * 37, dtype=torch.float64).mul(57).sin().view(1, 3, 37, 37)  # without any symmetry


@pytest.mark.parametrize(("group", "elements"), [("p4", 4), ("p4m", 8)])
def test_all_cnn_sees_turned_images_as_it_sees_the_image(group, elements: int) -> None:
    net = lively(all_cnn(10, 33, 3, group=group, width=4))
    assert spread(net, turned(X[..., :33, :33])[:elements]) < 1e-10
    assert spread(net, turned(X[..., :32, :32])[:elements]) > 1e-4  # here the strides miss the symmetry
    if group == "p4":
        assert spread(net, turned(X[..., :33, :33])) > 1e-4  # mirrored


def test_the_plane_and_the_resnet_are_not_invariant() -> None:
    for net in (all_cnn(width=4), group_resnet(depth=8, group="p4m", widths=(2, 3, 4))):
        assert spread(lively(net), turned(X[..., :33, :33])) > 1e-4


def test_the_resnet_is_equivariant_before_its_classifier() -> None:
    net = lively(group_resnet(depth=8, group="p4m", widths=(2, 3, 4)))
    net.fc = nn.Identity()
    pooled = [net(image).view(1, 4, 8).mean(2) for image in turned(X[..., :33, :33])]
    for other in pooled[1:]:
        torch.testing.assert_close(other, pooled[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("group", ["z2", "p4", "p4m"])
@pytest.mark.parametrize(
    "backbone",
    [
        lambda **own: all_cnn(7, 16, 1, width=4, **own),
        lambda **own: group_resnet(7, 16, 1, depth=8, widths=(2, 3, 4), **own),
    ],
)
def test_every_parameter_learns(backbone, group) -> None:
    net = backbone(group=group).to(memory_format=torch.channels_last)
    logits = net(torch.randn(4, 1, 16, 16))
    assert logits.shape == (4, 7)
    F.cross_entropy(logits, torch.tensor([0, 1, 2, 6])).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    other = backbone(group=group)
    other.load_state_dict(net.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        assert other.eval()(torch.randn(1, 1, 16, 16)).isfinite().all()


@pytest.mark.parametrize(("depth", "nearest"), [(45, 44), (6, 8)])
def test_the_resnet_refuses_other_depths(depth: int, nearest: int) -> None:
    with pytest.raises(ValueError, match=f"depth={depth}: .* nearest: {nearest}"):
        group_resnet(depth=depth)
