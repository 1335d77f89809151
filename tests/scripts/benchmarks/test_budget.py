"""benchmark=budget: which budgets are set, and what a row says of them; not how fast anything is."""

from collections.abc import Sequence
from functools import partial

import pytest
from hydra import initialize_config_dir
from torch import nn

from conf import schema
from models import time_budget
from models.backbones.cifar_resnet import cifar_resnet
from models.build import Input, build
from models.cost import count
from models.layers.ghost import Ghost
from models.scope import Shape, spatial
from scripts.benchmarks import budget
from tests.conftest import ROOT


def macs(nets: Sequence[nn.Module], shape: Shape) -> list[float]:
    """A machine that takes a millisecond for each 1,000,000 MACs."""
    return [count(net, shape[1:]).macs / 1e6 for net in nets]


@pytest.mark.slow
def test_budgets_lie_between_the_fastest_network_and_the_slowest(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (budget, time_budget):
        monkeypatch.setattr(module, "milliseconds", macs)
    schema.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        near, far = budget.rows(backbone="resnet20", layers=["ghost"], shares=[0.1, 0.9], threads=1)
    fastest, slowest = (
        build(partial(cifar_resnet, depth=20), partial(Ghost, ratio=ratio), spatial, Input(10, 32, 3)).cost.macs / 1e6
        for ratio in (8, 2)
    )
    assert near["budget_ms"] == pytest.approx(0.9 * fastest + 0.1 * slowest)
    assert far["budget_ms"] == pytest.approx(0.1 * fastest + 0.9 * slowest)
    for row in (near, far):
        assert row["name"] == "resnet20_ghost"
        assert row["measured_ms"] == row["budget_macs"] / 1e6 <= row["budget_ms"]
        assert row["predicted_over_measured"] == pytest.approx(1)
