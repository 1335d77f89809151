"""Backbones times layers times input sizes: each builds, keeps its shape and learns with every parameter."""

import itertools

import pytest
import torch
from hydra.utils import instantiate
from torch.nn import functional as F

from models.build import Input, build

BACKBONES = ("resnet18", "resnet50", "vgg16_bn", "mobilenetv2_100", "resnet20")
LAYERS = ("conv", "sic", "lccl")


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "layer", "size"), list(itertools.product(BACKBONES, LAYERS, (32, 224))))
def test_builds_and_trains_a_step(composed, backbone: str, layer: str, size: int) -> None:
    model = instantiate(composed(f"model/backbone={backbone}", f"model/layer={layer}").model, _convert_="all")
    built = build(**model, data=Input(7, size, 3))
    assert any(swap.replaced for swap in built.swaps)
    images, labels = torch.randn(2, 3, size, size), torch.tensor([0, 6])
    before = {name: parameter.detach().clone() for name, parameter in built.net.named_parameters()}
    logits = built.net(images)
    assert logits.shape == (2, 7)
    F.cross_entropy(logits, labels).backward()
    torch.optim.SGD(built.net.parameters(), lr=0.1, weight_decay=0.1).step()
    for name, parameter in built.net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert not before[name].count_nonzero() or not torch.equal(before[name], parameter), name
