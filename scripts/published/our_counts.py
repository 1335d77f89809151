"""Our side of a published complexity: the network or the layer of a row, built on the meta device and counted."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from hydra import compose
from hydra.utils import instantiate
from torch import nn

from conf import binding
from conf.run import plain_config
from models.build import Input, build, paper_input
from models.cost import Cost, count
from models.rebuild import made_by
from scripts.published.rows import Row


def counted(row: Row) -> float:
    """The quantity of `row`, from a network of no data and no memory."""
    cost = layer_cost(row.network, row.conv) if row.conv else network_cost(row.network, **row.input)
    match row.quantity:
        case "params":
            ours = cost.params
        case "params_without_norm":
            ours = cost.params - sum(layer.params for layer in cost.layers if "Norm" in layer.kind)
        case "macs":
            ours = cost.macs
        case _:  # a ratio
            ours = network_cost(row.against, **row.input).macs / cost.macs
    return row.times * ours


@cache
def network_cost(network: tuple[str, ...], input_size: int | None = None, num_classes: int | None = None) -> Cost:
    """Cost of the network that these overrides make, for its own paper's input or the one given."""
    model = _model(network)
    given = {"size": input_size, "num_classes": num_classes}
    own = paper_input(model["backbone"])
    network_input = replace(own, **{key: value for key, value in given.items() if value})
    with torch.device("meta"):
        if made_by(model["layer"]) is nn.Conv2d:  # as it is: no need to rebuild it and count it again
            return count(_as_it_is(model["backbone"], network_input), network_input.shape)
        return build(**model, input=network_input).cost


def _as_it_is(backbone: Callable[..., nn.Module], given: Input) -> nn.Module:
    return backbone(num_classes=given.num_classes, input_size=given.size, in_channels=given.channels)


@cache
def layer_cost(network: tuple[str, ...], conv: tuple[int, ...]) -> Cost:
    """Cost of the layer of these overrides in place of a convolution (in, out, kernel) with bias, at one position."""
    inputs, outputs, kernel = conv
    with torch.device("meta"):
        return count(_model(network)["layer"](inputs, outputs, kernel, 1, kernel // 2, 1, 1, True), (inputs, 1, 1))


@cache
def _model(network: tuple[str, ...]) -> dict[str, Any]:
    config = compose("complexity", list(network))
    binding.check(plain_config(config))
    return instantiate(config.model, _convert_="all")
