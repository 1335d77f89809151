"""Optimizers by name: with our parameter groups, in mixed precision, saved and resumed."""

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from torch import nn
from torch.nn import functional as F
from torch.optim import Optimizer

from models.training.optimizers import timm_optimizer
from models.training.param_groups import param_groups

CHOICES = [["optimizer=sgd"], ["optimizer=rmsprop"], ["optimizer=adamw"]]
CHOICES += [["optimizer=timm", f"optimizer.name={name}"] for name in ("lamb", "lion", "muon", "lookahead_nadamw")]


class Slow(nn.Conv2d):
    lr_scale = 0.1
    decays = False


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), Slow(4, 8, 3), nn.Flatten(), nn.Linear(32, 3)
    )


def grouped(net: nn.Module, make: Callable[..., Optimizer]) -> Optimizer:
    defaults = make(net.parameters()).defaults  # as the classifier does
    return make(param_groups(net, defaults["lr"], defaults["weight_decay"]))


def train(net: nn.Module, optimizer: Optimizer, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        images, labels = torch.randn(8, 1, 6, 6, generator=generator), torch.randint(3, (8,), generator=generator)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            F.cross_entropy(net(images), labels).backward()
        optimizer.step()


@pytest.mark.parametrize("overrides", CHOICES, ids=lambda overrides: overrides[-1])
def test_grouped_in_mixed_precision_and_resumed_to_the_same_bits(plain, overrides: list[str]) -> None:
    make: Any = instantiate(plain(*overrides, "run_dir=here")["optimizer"], _convert_="all")
    net, resumed = network(), network()
    start = [parameter.detach().clone() for parameter in net.parameters()]
    optimizer = grouped(net, make)
    # The first and the last layer's weights decay; their biases, the norm and the whole slow layer do not.
    decayed = [len(group["params"]) for group in optimizer.param_groups if group["weight_decay"] > 0]
    assert (decayed, sum(len(group["params"]) for group in optimizer.param_groups)) == ([2], 8)
    assert {group["lr_scale"] for group in optimizer.param_groups} == {1.0, 0.1}
    train(net, optimizer, range(3))
    file = io.BytesIO()
    torch.save([net.state_dict(), optimizer.state_dict()], file)
    train(net, optimizer, range(3, 6))
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)  # as a run resumes
    other = grouped(resumed, make)
    resumed.load_state_dict(weights)
    other.load_state_dict(state)
    train(resumed, other, range(3, 6))
    for begun, straight, again in zip(start, net.parameters(), resumed.parameters(), strict=True):
        assert straight.isfinite().all()
        assert not torch.equal(begun, straight)
        assert torch.equal(straight, again)


def make(name: str, **options: Any) -> Optimizer:
    return timm_optimizer([nn.Parameter(torch.ones(2, 2))], name=name, lr=1e-3, weight_decay=0.1, **options)


def test_own_arguments_reach_the_optimizer() -> None:
    assert make("lion", betas=[0.8, 0.9]).defaults["betas"] == [0.8, 0.9]


WRONG = [
    ("lmab", {}, "optimizer.name=lmab: timm has no such optimizer; near it: lamb"),
    ("lamb", {"beta": [0.9, 0.9]}, "optimizer.beta: lamb takes no such argument; near it: betas"),
    ("adahessian", {}, "optimizer.name=adahessian needs second derivatives"),
]


@pytest.mark.parametrize(("name", "options", "message"), WRONG)
def test_what_there_is_not(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        make(name, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="apex may be here")
def test_what_needs_other_hardware_says_so() -> None:
    with pytest.raises(ValueError, match="optimizer.name=fusedlamb: CUDA required"):
        make("fusedlamb")
