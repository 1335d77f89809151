"""benchmark=budget: what budgets of milliseconds come to, the time predicted for them beside the one measured."""

import logging
from collections.abc import Iterator
from typing import Any

import torch
from hydra import compose
from hydra.utils import instantiate
from omegaconf import OmegaConf

from models.budget import ladder
from models.build import build, paper_input
from models.rebuild import rebuild, survey
from models.time_budget import milliseconds

log = logging.getLogger(__name__)


def rows(*, backbone: str, layers: list[str], shares: list[float], threads: int) -> Iterator[dict[str, Any]]:
    """For each of `layers`, a row for each budget: these `shares` of the way from its fastest to its slowest network.

    Times are those of one image, deployed (models/time_budget.py); each row measures all that it predicts from anew.
    """
    torch.set_num_threads(threads)
    log.info(f"timing {len(layers) * len(shares)} budgets, each from the networks and layers that its knob leads to")
    for layer in layers:
        config = OmegaConf.to_container(compose("train", [f"model={backbone}", f"model/layer={layer}"]).model)
        parts: dict[str, Any] = instantiate(config, _convert_="all")
        parts["input"] = paper_input(parts["backbone"])
        fastest, slowest = _range(parts)
        for share in shares:
            parts["budget_ms"] = fastest + share * (slowest - fastest)
            timed = build(**parts).timed
            assert timed
            yield {
                "name": f"{backbone}_{layer}",
                "threads": timed.threads,
                "budget_ms": timed.budget_ms,
                "predicted_ms": timed.predicted_ms,
                "measured_ms": timed.measured_ms,
                "predicted_over_measured": timed.predicted_ms / timed.measured_ms,
                "budget_macs": timed.budget_macs,
            }


def _range(parts: dict[str, Any]) -> tuple[float, float]:
    """Milliseconds of the networks with the cheapest and with the dearest value of the knob everywhere."""
    channels, size = parts["input"].channels, parts["input"].size
    shape, nets = (1, channels, size, size), []
    for rank in (0, -1):
        net = parts["backbone"](num_classes=parts["input"].num_classes, input_size=size, in_channels=channels)
        found = survey(net, parts["scope"], shape)
        ways = ladder(parts["layer"], found.places, fixed_macs=0)
        rebuild(net, found, {place.name: ways.layers[ways.rungs[rank]] for place in found.places})
        nets.append(net)
    low, high = sorted(milliseconds(nets, shape))
    return low, high
