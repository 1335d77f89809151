"""Report once, at the start, what was rebuilt and what the network costs."""

import logging
from collections import Counter

import pytorch_lightning as pl

from models.build import Built
from models.cost import Cost
from models.training.epochwise import Epochwise

log = logging.getLogger(__name__)


class Complexity(Epochwise, pl.Callback):
    """Parameters and MACs of the network and of its baseline, to the log."""

    def __init__(self, built: Built) -> None:
        self.built = built

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for line in rebuild_lines(self.built):
            log.info(line)


def rebuild_lines(built: Built) -> list[str]:
    """`18 of 19 convolutions replaced; kept: 1 (stem)`, the counts beside the baseline's, what no formula covers."""
    cost, baseline = built.cost, built.baseline
    kept = Counter(swap.reason for swap in built.swaps if not swap.replaced)
    replaced = len(built.swaps) - kept.total()
    if not replaced:
        return [
            f"the baseline: {len(built.swaps)} convolutions as they are",
            f"parameters {cost.params:,}, MACs {cost.macs:,}",
            *_by_operators(cost),
        ]
    reasons = ", ".join(f"{number} ({reason})" for reason, number in kept.items())
    chosen = [str(budget) for budget in (built.timed, built.choice) if budget]
    return [
        *chosen,
        f"{replaced} of {len(built.swaps)} convolutions replaced" + (f"; kept: {reasons}" if kept else ""),
        f"parameters {cost.params:,} of the baseline's {baseline.params:,}, MACs {cost.macs:,} of {baseline.macs:,}",
        *_by_operators(cost),
    ]


def _by_operators(cost: Cost) -> list[str]:
    kinds = Counter(layer.kind for layer in cost.layers if layer.operators)
    modules = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    return [f"{cost.macs_by_operators:,} of its MACs counted by operators alone, in {modules}"] if kinds else []
