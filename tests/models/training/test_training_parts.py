"""Initialisation, parameter groups, schedules and tallies, each against a closed form."""

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from models.init import initialise
from models.layers.lccl import LCCL
from models.training.first_batch import initialise_from
from models.training.param_groups import param_groups
from models.training.schedules import cosine, exponential, multistep, piecewise, polynomial
from models.training.tally import Tally


def test_initialisation_has_the_fan_out_scale() -> None:
    dense, depthwise = nn.Conv2d(64, 128, 3), nn.Conv2d(256, 256, 3, groups=256)
    initialise(nn.Sequential(dense, depthwise))
    assert dense.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 128)), rel=0.02)
    assert depthwise.weight.std().item() == pytest.approx(math.sqrt(2 / 9), rel=0.05)
    assert dense.bias is not None
    assert dense.bias.count_nonzero() == 0


class Centre(nn.Module):
    """Subtracts the mean of the first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(()))

    def init_from_batch(self, x: torch.Tensor) -> None:
        self.mean.copy_(x.mean())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - self.mean


@pytest.mark.parametrize("compiled", [False, True])
def test_modules_are_initialised_in_order_by_what_they_see_then(compiled: bool) -> None:
    first, second, images = Centre(), Centre(), torch.rand(4, 1, 2, 2) + 1
    net = nn.Sequential(first, nn.ReLU(), second)
    if compiled:
        net.compile(backend="eager")
        net(images)
    initialise_from(images, net)
    assert first.mean == images.mean()
    assert second.mean == (images - images.mean()).relu().mean()
    assert not any(module._forward_pre_hooks for module in net.modules())


def gated() -> nn.Sequential:
    """Two gates, a BatchNorm of momentum and one of averages, and random numbers, in the default memory format."""
    net = nn.Sequential(
        LCCL(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6, momentum=None),
        nn.Dropout(0.3),
        LCCL(6, 8, 3, 2, 1, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return net.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_initialising_from_a_batch_changes_nothing_but_parameters(dtype: torch.dtype) -> None:
    net, images = gated().to(dtype), torch.randn(8, 3, 9, 9, dtype=dtype)
    twin = copy.deepcopy(net)
    before, random = {name: buffer.clone() for name, buffer in net.named_buffers()}, torch.get_rng_state()
    initialise_from(images, net)
    assert all(torch.equal(before[name], buffer) for name, buffer in net.named_buffers())
    assert torch.equal(torch.get_rng_state(), random)
    changed = {name for name, old in twin.named_parameters() if not torch.equal(old, net.get_parameter(name))}
    assert changed == {"0.gate.conv.weight", "3.gate.conv.weight"}
    assert all(parameter.isfinite().all() for parameter in net.parameters())
    net(images)
    counts = {name: int(b) for name, b in net.named_buffers() if name.endswith("num_batches_tracked")}
    assert set(counts.values()) == {1}


def test_the_fit_of_a_gate_is_the_same_in_every_precision() -> None:
    """To what the weights of the precision itself can hold; float64 beside float32 to its rounding."""
    images = torch.randn(16, 3, 9, 9, dtype=torch.float64)
    start = gated().double().state_dict()
    kernels = {}
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        net = nn.Sequential(LCCL(3, 6, 3, padding=1, bias=False)).to(dtype)
        net.load_state_dict({name: tensor for name, tensor in start.items() if name.startswith("0.")})
        initialise_from(images.to(dtype), net)
        kernels[dtype] = net[0].gate.conv.weight.detach().double().flatten()
        assert net[0].gate.conv.weight.dtype == dtype
    for dtype, least in ((torch.float32, 1 - 1e-10), (torch.float16, 0.9999), (torch.bfloat16, 0.99)):
        assert nn.functional.cosine_similarity(kernels[dtype], kernels[torch.float64], dim=0) > least


def test_what_fails_on_the_way_leaves_no_trace_either() -> None:
    class Refuses(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("no")

    net = nn.Sequential(gated(), Refuses())
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    with pytest.raises(ValueError, match="no"):
        initialise_from(torch.randn(4, 3, 9, 9), net)
    assert all(torch.equal(before[name], buffer) for name, buffer in net.named_buffers())
    assert not any(module._forward_pre_hooks for module in net.modules())


def fit_of_one_process(rank: int, folder: str) -> None:
    """Initialise by this process's own images and keep what came of it."""
    rendezvous = f"file://{folder}/rendezvous"
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        torch.manual_seed(0)
        net = gated().to(dtype)
        initialise_from(torch.randn(8, 3, 9, 9, generator=torch.Generator().manual_seed(rank)).to(dtype), net)
        torch.save(net.state_dict(), f"{folder}/{dtype}-{rank}")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_all_processes_end_with_one_fit(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(fit_of_one_process, (str(tmp_path),), 2)
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        first, second = (torch.load(tmp_path / f"{dtype}-{rank}") for rank in (0, 1))
        assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


class Slow(nn.Module):
    lr_scale = 0.1

    def __init__(self, decays: bool = False) -> None:
        super().__init__()
        self.inside = nn.Conv2d(4, 1, 1)
        self.decays = decays


def test_groups_by_decay_and_rate() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), Slow(), nn.Linear(4, 2))
    groups = {(g["lr_scale"], g["weight_decay"]): len(g["params"]) for g in param_groups(net, 0.5, 1e-3)}
    assert groups == {(1.0, 1e-3): 2, (1.0, 0.0): 4, (0.1, 0.0): 2}
    rates = {g["lr_scale"]: g["lr"] for g in param_groups(net, 0.5, 1e-3)}
    assert rates == {1.0: 0.5, 0.1: 0.05}


@pytest.mark.parametrize("decay", [True, False])
def test_a_gate_decays_whole_or_not_at_all(decay: bool) -> None:
    layer = LCCL(3, 4, 3, bias=False, gate_kernel="1x1", gate_offset=None, gate_decay=decay, gate_lr_scale=0.5)
    decays = {id(p): g["weight_decay"] for g in param_groups(layer, 0.1, 1e-4) for p in g["params"]}
    assert [decays[id(parameter)] for parameter in layer.gate.parameters()] == [1e-4 if decay else 0.0] * 3
    norm = layer.get_submodule("conv.1")
    assert [decays[id(p)] for p in (layer.get_parameter("conv.0.weight"), *norm.parameters())] == [1e-4, 0.0, 0.0]


def optimizer() -> torch.optim.Optimizer:
    net = nn.Sequential(nn.Linear(3, 3), Slow())
    return torch.optim.SGD(param_groups(net, 1.0, 0.1))


def rates(schedule, opt: torch.optim.Optimizer, steps: list[int]) -> list[float]:
    values = []
    for step in steps:
        schedule.step_update(step)
        values.append(opt.param_groups[0]["lr"])
        assert opt.param_groups[-1]["lr"] == pytest.approx(0.1 * values[-1])  # the slow module
    return values


def test_cosine_warms_up_and_ends_at_zero() -> None:
    opt = optimizer()
    schedule = cosine(opt, 100, 10, warmup_epochs=1)
    expected = [0.1, 0.55, *(0.5 * (1 + math.cos(math.pi * step / 90)) for step in (0, 40, 89, 90))]
    assert opt.param_groups[0]["lr"] == pytest.approx(0.1)  # before the first step already
    assert rates(schedule, opt, [0, 5, 10, 50, 99, 100]) == pytest.approx(expected)


def test_multistep_drops_after_its_milestones() -> None:
    opt = optimizer()
    schedule = multistep(opt, 100, 10, milestones=[5, 7.5], gamma=0.1, warmup_epochs=0)
    assert rates(schedule, opt, [0, 49, 50, 74, 75, 99]) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_piecewise_changes_at_fractions_of_the_run() -> None:
    """The LCCL authors' rates: a tenth for 3 % of the run, then the whole, and a tenth of it at 45, 70 and 90 %."""
    opt = optimizer()
    schedule = piecewise(opt, 1000, 10, ends=[0.03, 0.45, 0.7, 0.9], rates=[0.1, 1, 0.1, 0.01, 0.001])
    expected = {0: 0.1, 29: 0.1, 30: 1, 449: 1, 450: 0.1, 699: 0.1, 700: 0.01, 899: 0.01, 900: 0.001, 999: 0.001}
    assert rates(schedule, opt, list(expected)) == pytest.approx(list(expected.values()))


@pytest.mark.parametrize("ends", [[0.5], [0.5, 0.2], [0.2, 1.0], [0.0, 0.5]])
def test_piecewise_refuses_ends_that_do_not_rise_within_the_run(ends: list[float]) -> None:
    with pytest.raises(ValueError, match=r"scheduler.ends=\[.*, scheduler.rates=\[1, 2, 3\]: ends must rise"):
        piecewise(optimizer(), 100, 10, ends=ends, rates=[1, 2, 3])


def test_polynomial_ends_at_zero() -> None:
    opt = optimizer()
    schedule = polynomial(opt, 100, 10, power=2.0, warmup_epochs=1)
    expected = [0.1, 0.55, *((1 - step / 90) ** 2 for step in (0, 40, 89, 90))]
    assert rates(schedule, opt, [0, 5, 10, 50, 99, 100]) == pytest.approx(expected)


def test_exponential_drops_again_and_again() -> None:
    opt = optimizer()
    schedule = exponential(opt, 100, 10, gamma=0.9, every_epochs=2.5, warmup_epochs=0)
    assert rates(schedule, opt, [0, 24, 25, 49, 50, 99]) == pytest.approx([1, 1, 0.9, 0.9, 0.81, 0.9**3])
    with pytest.raises(ValueError, match=r"every_epochs=0.01: .* nearest: 0.1"):
        exponential(optimizer(), 100, 10, gamma=0.9, every_epochs=0.01, warmup_epochs=0)


def test_schedules_refuse_what_would_never_happen() -> None:
    with pytest.raises(ValueError, match=r"milestones=\[5, 10\]: .* epoch 10"):
        multistep(optimizer(), 100, 10, milestones=[5, 10], gamma=0.1, warmup_epochs=0)
    with pytest.raises(ValueError, match="warmup_epochs=10: .* 10 epochs"):
        cosine(optimizer(), 100, 10, warmup_epochs=10)


def test_tally_counts_over_batches() -> None:
    logits, labels = torch.randn(101, 12), torch.randint(12, (101,))
    tally = Tally(1, 5)
    for part in torch.arange(101).split(40):
        tally.add(nn.functional.cross_entropy(logits[part], labels[part]), logits[part], labels[part])
    ranks = (logits > logits.gather(1, labels[:, None])).sum(1)  # how many classes come before the right one
    totals = tally.close()
    assert totals["top1"] == 100 * int((ranks < 1).sum()) / 101
    assert totals["top5"] == 100 * int((ranks < 5).sum()) / 101
    assert totals["loss"] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-6)
    assert tally.sums() == [0, 0, 0, 0]
