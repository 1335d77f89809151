"""The elastic penalty against its formula, what it reaches in training, and what is left behind."""

import copy
from functools import partial
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from models.layers.lccl import LCCL
from models.layers.sic import SIC
from models.training.classifier import Classifier
from models.training.first_batch import initialise_from
from models.training.param_groups import param_groups
from models.training.penalty import GatePenalty, gate_penalty


def network(**knobs) -> nn.Sequential:
    """Two gated layers at two resolutions."""
    return nn.Sequential(LCCL(3, 4, 3, padding=1, **knobs), LCCL(4, 5, 3, 2, 1, **knobs)).double()


@pytest.mark.parametrize("offset", [0.5, None])
@pytest.mark.parametrize("channels", ["shared", "each"])
def test_is_its_formula_and_reaches_every_gate(channels: str, offset: float | None) -> None:
    net, x = (
        network(gate_kernel="1x1", gate_channels=channels, gate_offset=offset),
        torch.randn(6, 3, 8, 10, dtype=torch.float64),
    )
    first = net[0].gate(x)
    maps = [first.flatten(), net[1].gate(net[0].conv(x) * first).flatten()]
    expected = sum((0.3 * g.norm() ** 2 + 0.7 * g.norm(p=1)) / len(g) for g in maps)
    penalty = GatePenalty(net, l2=0.3, l1=0.7)
    net(x)
    value = penalty.take()
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-10)
    value.backward()
    for layer in net:
        assert all(parameter.grad.count_nonzero() for parameter in layer.gate.parameters())
    assert not penalty.terms


def test_does_not_depend_on_batch_or_resolution() -> None:
    net, x = network(gate_kernel="1x1")[:1], torch.randn(2, 3, 4, 4, dtype=torch.float64)
    penalty = GatePenalty(net, l2=0.3, l1=0.7)
    net(x)
    once = penalty.take()
    net(x.repeat(3, 1, 2, 5))
    torch.testing.assert_close(penalty.take(), once, rtol=0, atol=1e-10)


def test_collects_nothing_in_evaluation() -> None:
    net = network().eval()
    penalty = GatePenalty(net, l2=0.0, l1=1.0)
    net(torch.randn(2, 3, 8, 8, dtype=torch.float64))
    assert not penalty.terms


def test_squares_do_not_overflow_in_half_precision() -> None:
    class Open(nn.Module):
        is_gated = True

        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Identity()

    net = Open()
    penalty = GatePenalty(net, l2=1.0, l1=0.0)
    net.gate(torch.full((1, 1, 2, 2), 1000.0, dtype=torch.float16))
    assert penalty.take().item() == 1e6


def test_no_hook_where_it_is_off() -> None:
    net = network()
    assert gate_penalty(net, l2=0.0, l1=0.0) is None
    assert gate_penalty(nn.Sequential(SIC(3, 4, 3)), l2=0.0, l1=0.0) is None
    assert not any(module._forward_hooks for module in net.modules())


def test_refusals_name_the_key() -> None:
    with pytest.raises(ValueError, match=r"gate_penalty.l2=-1.0: must not be negative; nearest: 0"):
        gate_penalty(network(), l2=-1.0, l1=0.0)
    with pytest.raises(ValueError, match=r"gate_penalty.l1=nan: must not be negative"):
        gate_penalty(network(), l2=0.0, l1=float("nan"))
    with pytest.raises(ValueError, match=r"gate_penalty.l1=0.1: this network has no gates; .* model/layer=lccl"):
        gate_penalty(nn.Sequential(SIC(3, 4, 3)), l2=0.0, l1=0.1)


def trained(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """One optimizer step of Lightning over two accumulated batches; what it logged."""
    classifier = Classifier(
        net,
        partial(torch.optim.SGD, lr=0.1),
        lambda *_: SimpleNamespace(step_update=lambda step: None),
        gate_penalty(net, l2=0.3, l1=0.7),
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        accumulate_grad_batches=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(classifier, DataLoader(TensorDataset(images, labels), batch_size=len(images) // 2))
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_step_over_accumulated_batches_follows_its_gradient(compiled: bool) -> None:
    net = nn.Sequential(network(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    twin = copy.deepcopy(net)
    images, labels = torch.randn(8, 3, 8, 8, dtype=torch.float64), torch.arange(8) % 5
    initialise_from(images[:4], twin)
    optimizer = torch.optim.SGD(param_groups(twin, 0.1, 0.0))
    penalties, losses = [], []
    for x, y in zip(images.split(4), labels.split(4), strict=True):
        first = twin[0][0].gate(x)
        maps = [first, twin[0][1].gate(twin[0][0].conv(x) * first)]
        penalties.append(sum(0.3 * g.square().mean() + 0.7 * g.abs().mean() for g in maps))
        losses.append(F.cross_entropy(twin(x), y))
    torch.stack([*losses, *penalties]).sum().div(2).backward()
    optimizer.step()

    if compiled:
        net.compile(backend="aot_eager")
    logged = trained(net, images, labels)
    for (name, parameter), other in zip(net.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, rtol=0, atol=1e-10, msg=name)
    assert logged["train/gate_penalty"] == pytest.approx(torch.stack(penalties).mean().item())
    assert logged["train/loss"] == pytest.approx(torch.stack(losses).mean().item())
