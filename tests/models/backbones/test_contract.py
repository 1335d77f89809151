"""The contract of models/backbones, for every backbone in conf/model/backbone, at its paper's input and on CIFAR's."""

import re
from collections.abc import Callable
from functools import partial

import pytest
import torch
import yaml
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.nn import functional as F

from models.build import paper_input
from models.cost import count
from tests.conftest import ROOT, choices

NAMED = {"timm": ["model.backbone.name=resnet26"], "torchvision": ["model.backbone.name=mobilenet_v2"]}
# The same blocks in less time at 32 px; at the paper's input everything is as its YAML has it.
SMALLER = {
    "factorized": ["model.backbone.layers_per_stage=2"],
    "p4m_resnet44": ["model.backbone.depth=8"],
    "preact_resnet110": ["model.backbone.depth=20"],
    "resnet110": ["model.backbone.depth=20"],
    "shift_resnet110": ["model.backbone.depth=20"],
    "shiftnet_a": ["model.backbone.width=0.25"],
    "wrn28_10": ["model.backbone.depth=16", "model.backbone.widen_factor=2"],
}
BACKBONES = choices("model/backbone")
TARGETS = {
    name: yaml.safe_load((ROOT / f"conf/model/backbone/{name}.yaml").read_text())["_target_"] for name in BACKBONES
}
LIBRARY = [name for name in BACKBONES if TARGETS[name].endswith("library_network")]
# Networks of the libraries are all refused alike; NAMED stand for them.
OWN = [name for name in BACKBONES if name not in LIBRARY]
# The first of each function that makes backbones; what its arguments change, the test of the family looks at.
KINDS = [*{TARGETS[name]: name for name in reversed(OWN)}.values(), *NAMED]
REFUSAL = re.compile(r"input_size=32: .*; nearest: (\d+)")


@pytest.fixture
def configured(composed):
    """configured("resnet20", ...): the backbone as its YAML configures it, a function of the first three arguments."""

    def configured_(name: str, *overrides: str):
        model = composed(f"model/backbone={name}", *NAMED.get(name, []), *overrides, config="complexity").model
        return instantiate(model.backbone, _convert_="all")

    return configured_


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_counts_at_the_papers_input(configured, name: str) -> None:
    backbone = configured(name)
    data = paper_input(backbone)
    with torch.device("meta"):
        net = backbone()
    cost = count(net, data.shape)  # raises where the formulas and the operator counter differ
    assert 0 < cost.params < cost.macs
    assert cost.macs_by_operators == 0  # each of them is counted twice
    assert cost.layers[-1].output_shape[:2] == (1, data.num_classes)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OWN, *NAMED])
def test_one_pixel_is_refused_with_the_least_size_that_works(configured, name: str) -> None:
    backbone = configured(name)
    with torch.device("meta"):
        with pytest.raises(ValueError, match=r"input_size=1: .*; nearest: \d+$") as refused:
            backbone(10, 1, 3)
        nearest = int(str(refused.value).split()[-1])
        with pytest.raises(ValueError, match=f"input_size={nearest - 1}: .*; nearest: {nearest}$"):
            backbone(10, nearest - 1, 3)
        assert backbone(10, nearest, 3).eval()(torch.zeros(2, 3, nearest, nearest)).shape == (2, 10)


@pytest.mark.slow
@pytest.mark.parametrize("name", LIBRARY)
def test_networks_of_the_libraries_have_room_at_32_px(configured, name: str) -> None:
    with torch.device("meta"):
        size, net = smallest_from_32(partial(configured(name), 10, in_channels=3))
        check_room(net, torch.randn(2, 3, size, size))


@pytest.mark.slow  # half a minute in all
@pytest.mark.parametrize("name", KINDS)
def test_works_at_32_px(configured, name: str) -> None:
    """Or at the size that the refusal of 32 names: logits, at least 2 x 2, a training step, bf16, export."""
    size, net = smallest_from_32(partial(configured(name, *SMALLER.get(name, [])), 10, in_channels=3))
    images = torch.randn(2, 3, size, size)
    check_room(net, images)
    check_training_step(net, images)
    net.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert net(images).isfinite().all()
    exported = torch.export.export(net, (images,)).module()
    torch.testing.assert_close(exported(images), net(images))


def smallest_from_32(make: Callable[[int], nn.Module]) -> tuple[int, nn.Module]:
    try:
        return 32, make(32)
    except ValueError as error:
        refusal = str(error)
    nearest = REFUSAL.fullmatch(refusal)
    assert nearest, refusal
    return int(nearest[1]), make(int(nearest[1]))


def check_room(net: nn.Module, images: Tensor) -> None:
    """Whatever normalises maps, or convolves neighbours, sees at least 2 x 2."""
    sizes: dict[str, tuple[int, ...]] = {}

    def watch(name: str):
        def hook(module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
            sizes[name] = tuple(args[0].shape[-2:])

        return hook

    hooks = [module.register_forward_hook(watch(name)) for name, module in net.named_modules() if looks_around(module)]
    with torch.no_grad():
        assert net(images).shape == (2, 10)
    for hook in hooks:
        hook.remove()
    assert sizes
    assert all(min(size) >= 2 for size in sizes.values()), sizes


def looks_around(module: nn.Module) -> bool:
    is_spatial = isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1
    return is_spatial or isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)  # 3-d: the planes of a group, then space


def check_training_step(net: nn.Module, images: Tensor) -> None:
    net.to(memory_format=torch.channels_last)
    logits = net(images.contiguous(memory_format=torch.channels_last))
    F.cross_entropy(logits, torch.tensor([0, 9])).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
