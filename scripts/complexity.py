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
from models.columns import columns, row_in_columns

if TYPE_CHECKING:
    from models.build import Built, Input
    from models.cost import Cost, LayerCost


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
    given = Input(data["num_classes"], data["input_size"], data["channels"]) if data else None
    network_input = given or paper_input(model["backbone"])
    try:
        with torch.device("meta"):
            built = build(**model, input=network_input)
    except ValueError as refusal:
        if config.format != CountFormat.row:
            raise
        print(row(network_names(plain), str(refusal)))
        return
    if config.format == CountFormat.row:
        print(row(network_names(plain), built))
    else:
        as_json = config.format == CountFormat.json
        print(json.dumps(report(built, network_input), indent=1) if as_json else layer_table(built, network_input))


def report(built: "Built", network_input: "Input") -> dict[str, Any]:
    """Everything counted, per image; of gated layers `macs` is dense, `macs_gates_closed` with every gate shut.

    `macs_by_operators`: what only operators counted, without a formula of the layer beside them. `time`: what a budget
    of milliseconds came to, and the predicted and the measured time.
    """
    cost, baseline = built.cost, built.baseline
    return {
        "input": asdict(network_input),
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
        "time": asdict(built.timed) if built.timed else None,
        "convolutions": [asdict(swap) | {"replaced": swap.replaced} for swap in built.swaps],
        "layers": [asdict(layer) for layer in cost.layers],
    }


def gated_macs(built: "Built") -> int:
    """MACs of the convolutions that gates can skip."""
    from models.layers import gated_layers

    return sum(built.cost.macs_of(f"{name}.conv") for name in gated_layers(built.net))


def row(names: dict[str, str], outcome: "Built | str") -> str:
    """One line of a table over networks, or why there is no such network; the first of a sweep has the heading."""
    heading = ("backbone", "layer", "scope", "parameters", "MACs", "fewer", "replaced")
    widths = (18, 29, 8, 12, 14, 7, 9)
    named = (names["backbone"], names["layer"], names["scope"])
    if isinstance(outcome, str):
        cells = (*named, "", "", "", f"refused: {outcome}")
    else:
        cost, replaced = outcome.cost, sum(swap.replaced for swap in outcome.swaps)
        counts = (f"{cost.params:,}", f"{cost.macs:,}", f"{outcome.baseline.macs / cost.macs:.2f}x")
        cells = (*named, *counts, f"{replaced} of {len(outcome.swaps)}")
    is_first = OmegaConf.is_missing(HydraConfig.get().job, "num") or not HydraConfig.get().job.num
    return "\n".join(row_in_columns(row, widths, left=3) for row in ([heading, cells] if is_first else [cells]))


def layer_table(built: "Built", network_input: "Input") -> str:
    """One row for each layer, the totals beside the baseline's, then what was replaced and what was not counted."""
    from callbacks.complexity import rebuild_lines

    cost, baseline = built.cost, built.baseline
    rows = [("layer", "kind", "output", "parameters", "MACs", "activations", "")]
    for layer in cost.layers:
        output = "x".join(map(str, layer.output_shape[1:])) or "not called"
        alone = "by operators alone: " + ", ".join(layer.operators) if layer.operators else ""
        rows.append((layer.name, layer.kind, output, *_counts(layer), alone))
    rows += [(name, "", "", *_counts(total), "") for name, total in (("total", cost), ("baseline", baseline))]
    lines = [*columns(rows, left=3), *rebuild_lines(built), f"FLOPs {cost.flops:,} (2 for each MAC)"]
    if gated_macs(built):
        lines.append(
            f"MACs with every gate open {cost.macs:,}, with every gate closed {cost.macs - gated_macs(built):,}"
        )
    channels, size, _ = network_input.shape
    lines.append(f"one image of {channels} x {size} x {size}, {network_input.num_classes} classes")
    lines.append("not counted: " + ", ".join(f"{name} ({calls})" for name, calls in cost.uncounted.items()))
    return "\n".join(lines)


def _counts(counted: "Cost | LayerCost") -> tuple[str, str, str]:
    return f"{counted.params:,}", f"{counted.macs:,}", f"{counted.activations:,}"


if __name__ == "__main__":
    launch(main, "complexity")
