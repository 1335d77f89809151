"""The elastic penalty on gate maps, a loss term that closes gates."""

import torch
from torch import Tensor, nn

from ..layers import gated_layers


class GatePenalty:
    """l2 ||g||^2 + l1 |g| of the gate maps g of `net`, collected while it trains.

    Source: the L1L2 loss of Dong et al. 2017, arXiv:1703.08651. Each map (N, 1 or n, H', W') counts by its mean over
    images, positions and channels, so that batch size and resolution change nothing; the gates are added up.
    """

    def __init__(self, net: nn.Module, *, l2: float, l1: float) -> None:
        layers = gated_layers(net)
        if not layers:
            raise ValueError(
                f"gate_penalty.l2={l2}, gate_penalty.l1={l1}: this network has no gates; "
                "set both to 0 or choose a gated layer, e.g. model/layer=lccl"
            )
        self.l2, self.l1 = l2, l1
        self.terms: list[Tensor] = []  # one for each gate, in the current step
        for layer in layers.values():
            layer.get_submodule("gate").register_forward_hook(self._collect)

    def _collect(self, gate: nn.Module, args: object, gate_map: Tensor) -> None:
        if gate.training and torch.is_grad_enabled():  # not in the pass that initialises by data
            g = gate_map.to(torch.promote_types(gate_map.dtype, torch.float32))  # squares overflow in half precision
            self.terms.append(self.l2 * g.square().mean() + self.l1 * g.mean())  # |g| = g: a gate is never negative

    def take(self) -> Tensor:
        """The penalty of the forward pass since the last call, a scalar with its graph; none of it is kept."""
        penalty = torch.stack(self.terms).sum()
        self.terms.clear()
        return penalty


def gate_penalty(net: nn.Module, *, l2: float, l1: float) -> GatePenalty | None:
    """The penalty with these weights, or None where both are 0. Raises ValueError for a negative weight."""
    for name, weight in (("l2", l2), ("l1", l1)):
        if not weight >= 0:
            raise ValueError(f"gate_penalty.{name}={weight}: must not be negative; nearest: 0, which leaves it out")
    return GatePenalty(net, l2=l2, l1=l1) if l2 or l1 else None
