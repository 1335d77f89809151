"""Hydra's sweep grammar as what Optuna searches."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from sweeps.space import split

SPACES = [
    ("model/layer=sic,ghost", CategoricalDistribution(["sic", "ghost"])),
    ("model/layer=choice(sic,ghost)", CategoricalDistribution(["sic", "ghost"])),
    ("optimizer.lr=interval(0.01,1)", FloatDistribution(0.01, 1.0)),
    ("optimizer.lr=tag(log,interval(0.01,1))", FloatDistribution(0.01, 1.0, log=True)),
    ("model.layer.b=range(1,9,2)", IntDistribution(1, 7, step=2)),
    ("model.layer.b=int(interval(1,9))", IntDistribution(1, 9)),
    ("model.scope.stages=[1],[1,2]", CategoricalDistribution(["[1]", "[1,2]"])),
]


@pytest.mark.parametrize(("text", "distribution"), SPACES)
def test_a_sweep_becomes_a_distribution(text: str, distribution) -> None:
    fixed, space = split(OverridesParser.create().parse_overrides(["seed=3", text]))
    assert fixed == ["seed=3"]
    assert space == {text.partition("=")[0]: distribution}


def test_nothing_to_search_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to search: give at least one key several values"):
        split(OverridesParser.create().parse_overrides(["seed=3"]))
