"""Count a network and its unrebuilt baseline: python scripts/complexity.py model=resnet50_sic format=json."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import json

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from conf import binding
from conf.launch import launch
from conf.run import plain_config
from conf.run_name import network_names
from conf.schema import CountFormat

if TYPE_CHECKING:
    from models.build import Built, Input


def main(config: DictConfig) -> None:
    """Build on the meta device, which takes neither memory nor data, and print the counts."""
    plain = plain_config(config)
    binding.check(plain)
    # Here, not at the top: a wrong word in the command need not wait for torch.
    import torch
    from hydra.utils import instantiate

    from models.build import Input, build, paper_input

    model = instantiate(config.model, _convert_="all")
    data = plain["data"]
    shape = Input(data["num_classes"], data["input_size"], data["channels"]) if data else paper_input(model["backbone"])
    try:
        with torch.device("meta"):
            built = build(**model, data=shape)
    except ValueError as refusal:
        if config.format != CountFormat.row:
            raise
        print(row(network_names(plain), str(refusal)))
        return
    if config.format == CountFormat.row:
        print(row(network_names(plain), built))
    else:
        print(json.dumps(report(built, shape), indent=1) if config.format == CountFormat.json else table(built, shape))


def report(built: "Built", shape: "Input") -> dict[str, Any]:
    """Everything counted, per image; of gated layers `macs` is dense, `macs_gates_closed` with every gate shut.

    `macs_by_operators`: what only operators counted, without a formula of the layer beside them.
    """
    cost, baseline = built.cost, built.baseline
    return {
        "input": asdict(shape),
        "params": cost.params,
        "macs": cost.macs,
        "macs_by_operators": cost.macs_by_operators,
        "macs_gates_closed": cost.macs - gated_macs(built) if gated_macs(built) else None,
        "flops": cost.flops,
        "activations": cost.activations,
        "baseline_params": baseline.params,
        "baseline_macs": baseline.macs,
        "baseline_flops": baseline.flops,
        "baseline_activations": baseline.activations,
        "uncounted": cost.uncounted,
        "convolutions": [asdict(swap) | {"replaced": swap.replaced} for swap in built.swaps],
        "layers": [asdict(layer) for layer in cost.layers],
    }


def gated_macs(built: "Built") -> int:
    """MACs of the convolutions that gates can skip."""
    from models.layers import gated_layers

    return sum(built.cost.macs_of(f"{name}.conv") for name in gated_layers(built.net))


def row(names: dict[str, str], outcome: "Built | str") -> str:
    """One line of a table over networks, or why there is no such network; the first of a sweep has the heading."""
    line = "{:18}{:31}{:10}{:>14}{:>16}{:>9}  {}"
    named = (names["backbone"], names["layer"], names["scope"])
    if isinstance(outcome, str):
        text = line.format(*named, "", "", "", f"refused: {outcome}")
    else:
        cost, replaced = outcome.cost, sum(swap.replaced for swap in outcome.swaps)
        counts = (f"{cost.params:,}", f"{cost.macs:,}", f"{outcome.baseline.macs / cost.macs:.2f}x")
        text = line.format(*named, *counts, f"{replaced} of {len(outcome.swaps)}")
    if not OmegaConf.is_missing(HydraConfig.get().job, "num") and HydraConfig.get().job.num:
        return text
    return line.format("backbone", "layer", "scope", "parameters", "MACs", "fewer", "replaced") + "\n" + text


def table(built: "Built", shape: "Input") -> str:
    """One row a layer, then what was replaced, the totals beside the baseline's, and what was not counted."""
    from callbacks.complexity import rebuild_lines

    row = "{:44}{:18}{:>14}{:>18}{:>14}  {}"
    cost, baseline = built.cost, built.baseline
    lines = [row.format("layer", "kind", "parameters", "MACs", "activations", "output")]
    for layer in cost.layers:
        output = "x".join(map(str, layer.output_shape[1:])) or "not called"
        counts = (f"{layer.params:,}", f"{layer.macs:,}", f"{layer.activations:,}")
        alone = "  by operators alone: " + ", ".join(layer.operators) if layer.operators else ""
        lines.append(row.format(layer.name, layer.kind, *counts, output + alone))
    for name, total in (("total", cost), ("baseline", baseline)):
        counts = (f"{total.params:,}", f"{total.macs:,}", f"{total.activations:,}")
        lines.append(row.format(name, "", *counts, f"{total.flops:,} FLOPs"))
    lines += rebuild_lines(built)
    if gated_macs(built):
        lines.append(
            f"MACs with every gate open {cost.macs:,}, with every gate closed {cost.macs - gated_macs(built):,}"
        )
    lines.append(f"one image of {shape.channels} x {shape.size} x {shape.size}, {shape.num_classes} classes")
    lines.append("not counted: " + ", ".join(f"{name} ({calls})" for name, calls in cost.uncounted.items()))
    return "\n".join(lines)


if __name__ == "__main__":
    launch(main, "complexity")
