"""What follows a convolution may look like what can be fused, and be something else: deployed it computes the same."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune, weight_norm

from models.inference.deploy import deploy
from models.kernels.fused_conv import FusedConv
from models.kernels.fused_gated_conv import FusedGatedConv
from models.layers.group_equivariant import GroupConv2d
from models.layers.lccl import LCCL
from models.training.penalty import gate_penalty
from tests.models.inference.deployed import Net, agrees


def both_views(y: Tensor) -> tuple[Tensor, Tensor]:
    return y.mT.mT, y


FORMS: dict[str, tuple[bool, Callable[[Net, Tensor], Tensor]]] = {  # whether nothing but FusedConv remains
    "clamp": (True, lambda net, x: net.a(x).clamp(min=0)),
    "torch.clamp": (True, lambda net, x: torch.clamp(net.a(x), 0)),
    "clamp_min": (True, lambda net, x: net.a(x).clamp_min_(0)),
    "clamp to 6": (False, lambda net, x: net.a(x).clamp(0, 6)),
    "clamp above 1": (False, lambda net, x: net.a(x).clamp(min=1)),
    "clamp below": (False, lambda net, x: net.a(x).clamp(max=0)),
    "clamp by": (False, lambda net, x: torch.clamp(x, net.a(x))),
    "relu6": (False, lambda net, x: F.relu6(8 * net.a(x))),
    "leaky": (False, lambda net, x: F.leaky_relu(net.a(x))),
    "relu by name": (False, lambda net, x: F.relu(input=net.a(x))),
    "add": (True, lambda net, x: F.relu(net.norm_a(net.a(x)) + x)),
    "add to its input": (True, lambda net, x: x + net.a(x)),
    "method": (True, lambda net, x: net.a(x).add(x).relu_()),
    "in place": (True, lambda net, x: net.a(x).add_(x).relu_()),
    "twice itself": (False, lambda net, x: (lambda y: F.relu(y + y))(net.a(x))),
    "alpha": (False, lambda net, x: torch.add(net.a(x), x, alpha=3)),
    "alpha in place": (False, lambda net, x: net.a(x).add_(x, alpha=3)),
    "number": (False, lambda net, x: F.relu(net.a(x) + 0.3)),
    "number first": (False, lambda net, x: F.relu(0.3 + net.a(x))),
    "a size": (False, lambda net, x: F.relu(net.a(x) + x.shape[0])),
    "a scalar": (False, lambda net, x: F.relu(net.a(x) + x.mean())),
    "one channel": (False, lambda net, x: F.relu(net.a(x) + x[:, :1])),
    "a float": (False, lambda net, x: F.relu(net.a(x) + x.float())),
    "a float in place": (False, lambda net, x: F.relu(net.a(x).add_(x.float()))),
    "subtraction": (False, lambda net, x: F.relu(net.a(x) - x)),
    "the other's sum": (False, lambda net, x: (lambda y: y.add_(net.a(x)) + y)(x + 1)),
    "functional dropout": (True, lambda net, x: F.relu(F.dropout(net.a(x), 0.5, net.training))),
    "modules by name": (False, lambda net, x: net.drop(input=net.norm_a(input=net.a(input=x)))),
    "convolution twice": (False, lambda net, x: net.a(net.a(x))),
    "norm twice": (False, lambda net, x: net.norm_a(net.b(net.norm_a(net.a(x))))),
    "value twice": (False, lambda net, x: net.norm_a(net.a(x)) * net.a.weight.mean()),
    "weight read": (False, lambda net, x: F.conv2d(net.norm_a(net.a(x)), net.a.weight, padding=1)),
    "norm apart": (False, lambda net, x: F.relu(net.norm_a(x + 1))),
    "norm apart, read twice": (False, lambda net, x: (lambda y: F.relu(y) + y)(net.norm_a(x + 1))),
    "norm apart, read by a view": (False, lambda net, x: (lambda y, z: F.relu(y) + z)(*both_views(net.norm_a(x)))),
    "one activation twice": (False, lambda net, x: (lambda y: net.relu6(y) + net.relu6(net.norm_a(y)))(2 * x)),
    "no batch": (True, lambda net, x: (net.a(x[0]) + x[0]).relu()),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layer", [nn.Conv2d, LCCL])
def test_forms(form: str, layer: type[nn.Module]) -> None:
    if layer is LCCL and form in ("value twice", "weight read", "no batch", "modules by name"):
        pytest.skip("LCCL has no weight, takes no single image and calls it x")
    whole, run = FORMS[form]
    deployed = agrees(Net(run, layer))
    rest = {node.op for node in deployed.graph.nodes} & {"call_function", "call_method"}
    if whole and form != "no batch":
        assert not rest


def replaced(change: Callable[[Net], object], run: Callable[[Net, Tensor], Tensor] | None = None) -> Net:
    net = Net(run or (lambda net, x: net.relu_(net.norm_a(net.a(x)) + x)))
    change(net)
    return net.eval()


PARTS: dict[str, Callable[[Net], object]] = {
    "no running statistics": lambda net: setattr(net, "norm_a", nn.BatchNorm2d(4, track_running_stats=False)),
    "cumulative": lambda net: setattr(net.norm_a, "momentum", None),
    "not affine": lambda net: setattr(net, "norm_a", nn.BatchNorm2d(4, affine=False)),
    "synchronised": lambda net: setattr(net, "norm_a", nn.SyncBatchNorm.convert_sync_batchnorm(net.norm_a)),
    "instance": lambda net: setattr(net, "norm_a", nn.InstanceNorm2d(4, affine=True)),
    "circular": lambda net: setattr(net, "a", nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")),
    "reflect": lambda net: setattr(net, "a", nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")),
    "same": lambda net: setattr(net, "a", nn.Conv2d(4, 4, 3, padding="same")),
    "weight_norm": lambda net: weight_norm(net.a),  # pyright: ignore[reportDeprecated]
    "parametrized": lambda net: parametrizations.weight_norm(net.a),
    "spectral": lambda net: parametrizations.spectral_norm(net.a),
    "pruned": lambda net: prune.l1_unstructured(net.a, "weight", 0.5),
    "one convolution under two names": lambda net: setattr(net, "a", net.stem),
    "one weight in two": lambda net: setattr(net.a, "weight", net.stem.weight),
    "one norm under two names": lambda net: setattr(net, "norm_a", net.norm_b),
    "relu6": lambda net: setattr(net, "relu_", nn.ReLU6(inplace=True)),
    "hardtanh": lambda net: setattr(net, "relu_", nn.Hardtanh(0, 0.5)),
    "prelu": lambda net: setattr(net, "relu_", nn.PReLU()),
    "double": lambda net: setattr(net, "same", nn.Sequential(nn.Identity(), nn.Dropout2d(0.5))),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("part", PARTS)
def test_parts(part: str) -> None:
    agrees(replaced(PARTS[part]))


@pytest.mark.parametrize("name", ["a", "norm_a", "relu_", "same", "drop"])
@pytest.mark.parametrize("kind", ["forward_hook", "forward_pre_hook"])
def test_hooks_still_act(name: str, kind: str) -> None:
    hooks = {"forward_hook": lambda _, given, out: 2 * out, "forward_pre_hook": lambda _, given: (given[0] - 1,)}
    net = replaced(lambda net: None, lambda net, x: net.drop(net.same(net.relu_(net.norm_a(net.a(x)) + x))))
    getattr(net.get_submodule(name), f"register_{kind}")(hooks[kind])
    agrees(net)


def test_hooks_of_the_network_itself_are_refused() -> None:
    net = replaced(lambda net: net.register_forward_hook(lambda _, given, out: 2 * out))
    with pytest.raises(ValueError, match="Net cannot be deployed with hooks of its own, which would be lost; remove"):
        deploy(net)


class Choosing(nn.Module):
    """Looks at its input's values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        return y if x.mean() > 0 else -y


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand(1, dtype=x.dtype if isinstance(x, Tensor) else torch.double)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.calls


def test_a_module_that_looks_at_values_is_kept_whole_and_the_rest_fused(caplog) -> None:
    caplog.set_level("INFO", "models.inference.recording")
    net = replaced(lambda net: setattr(net, "same", Choosing()), lambda net, x: net.relu_(net.a(net.same(x)) + x))
    for sign in (1, -1):
        deployed = agrees(net, sign * torch.rand(2, 4, 8, 8, dtype=torch.double))
    assert isinstance(deployed.get_submodule("a"), FusedConv)
    assert isinstance(deployed.get_submodule("same"), Choosing)
    assert "same stays as it is, its convolutions too: torch.fx cannot record its forward pass (symb" in caplog.text


def test_a_layer_that_cannot_be_recorded_is_named(caplog) -> None:
    caplog.set_level("INFO", "models.inference.recording")
    agrees(nn.Sequential(GroupConv2d(4, 2, 3, group="p4", lifting=True), nn.ReLU()))
    assert caplog.text.count("0 stays as it is, its convolutions too: torch.fx cannot record its forward pass (") == 1


def test_a_part_of_a_module_that_is_kept_whole_is_not_fused() -> None:
    def run(net: Net, x: Tensor) -> Tensor:
        return net.norm_a(net.same.conv(x)) + net.same(x)

    agrees(replaced(lambda net: setattr(net, "same", Choosing()), run))


def test_random_numbers_are_drawn_in_each_call() -> None:
    deployed = deploy(nn.Sequential(nn.Conv2d(4, 4, 1), Noisy()))
    x = torch.randn(2, 4, 3, 3)
    assert not torch.equal(deployed(x), deployed(x))


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        y = self.conv(x)
        return y if mask is None else y * mask


def test_an_argument_that_is_left_out_stays_so() -> None:
    deployed = agrees(Masked())
    with pytest.raises(AssertionError, match="mask has been specialized to have value None"):
        deployed(torch.ones(1, 4, 2, 2), torch.ones(()))


def test_a_network_that_draws_random_numbers_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="Noisy cannot be deployed: it draws random numbers, which would be the same"):
        deploy(Noisy())


def test_the_hooks_of_a_gate_penalty_act_in_training_alone() -> None:
    net = Net(lambda net, x: net.norm_a(net.a(x)), LCCL)
    gate_penalty(net, l2=1.0, l1=1.0)
    assert isinstance(agrees(net).get_submodule("a"), FusedGatedConv)


def test_a_network_that_changes_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="Sequential cannot be deployed: its forward pass changes 1.calls in eval"):
        deploy(nn.Sequential(nn.Conv2d(4, 4, 1), Counting()))


def test_what_cannot_be_recorded_at_all_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"Choosing cannot be deployed: .* a submodule, which is then kept whole"):
        deploy(Choosing())


@pytest.mark.parametrize("made_in", [True, False])
@pytest.mark.parametrize("layer", [partial(nn.Conv2d, padding=1), partial(LCCL, padding=1)])
def test_weights_loaded_into_a_deployed_network_are_seen(layer: Callable[..., nn.Module], made_in: bool) -> None:
    """The packed ones too, where all of it happens in inference mode."""
    with torch.inference_mode(made_in):
        first, second = (nn.Sequential(layer(4, 8, 3), nn.BatchNorm2d(8)) for _ in range(2))
    x = torch.randn(2, 4, 6, 6)
    with torch.inference_mode():
        deployed, wanted = deploy(first), deploy(second)
        assert not torch.equal(deployed(x), wanted(x))
        deployed.load_state_dict(wanted.state_dict())
        assert torch.equal(deployed(x), wanted(x))
        deployed.load_state_dict(deploy(first).state_dict(), assign=True)
        assert torch.equal(deployed(x), deploy(first)(x))
