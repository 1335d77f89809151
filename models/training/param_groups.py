"""Sort a network's parameters into groups for the optimizer."""

from collections import defaultdict
from typing import Any

from torch import nn


def param_groups(net: nn.Module, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Groups that differ in rate and decay, with `lr_scale` for timm's schedulers.

    Norm parameters and biases (everything of fewer than two dimensions) are not decayed. A module with an
    attribute `lr_scale` is trained at that fraction of `lr`, with all it contains; all of it is decayed where its
    attribute `decays` is true, and nothing where it is not.
    """
    members: dict[tuple[float, float], dict[int, nn.Parameter]] = defaultdict(dict)
    for parameter, scale, gate_decays in _scaled_parameters(net, None, None):
        decays = parameter.ndim > 1 if gate_decays is None else gate_decays
        members[scale or 1.0, weight_decay if decays else 0.0].setdefault(id(parameter), parameter)
    return [
        {"params": list(group.values()), "lr": lr * scale, "initial_lr": lr, "lr_scale": scale, "weight_decay": decay}
        for (scale, decay), group in members.items()
    ]


def _scaled_parameters(module: nn.Module, scale: float | None, decays: bool | None):
    """Each parameter with the `lr_scale` and `decays` of the innermost module around it that has them."""
    scale, decays = getattr(module, "lr_scale", scale), getattr(module, "decays", decays)
    for parameter in module.parameters(recurse=False):
        yield parameter, scale, decays
    for child in module.children():
        yield from _scaled_parameters(child, scale, decays)
