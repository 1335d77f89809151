"""What a search varies: Hydra's sweep grammar as distributions of Optuna."""

from collections.abc import Sequence

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Space = dict[str, BaseDistribution]


def split(overrides: Sequence[Override]) -> tuple[list[str], Space]:
    """The overrides that are the same in every trial, and the distribution of each key that is not.

    `a,b` and `choice(a,b)` are categories, `range(1,9)` and `interval(1,9)` numbers; `tag(log, interval(0.01,1))` is
    searched by its logarithm. ValueError where nothing varies.
    """
    fixed, space = [], {}
    for override in overrides:
        key = override.get_key_element()
        if override.is_sweep_override():
            space[key] = _distribution(override)
        else:
            fixed.append(f"{key}={override.get_value_element_as_str()}")
    if not space:
        raise ValueError(
            "nothing to search: give at least one key several values, e.g. model/layer=sic,ghost or "
            "'optimizer.lr=tag(log,interval(0.01,1))'"
        )
    return fixed, space


def _distribution(override: Override) -> BaseDistribution:
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        low, high, is_log = sweep.start, sweep.end, "log" in sweep.tags
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=is_log)
        return FloatDistribution(float(low or 0), float(high or 0), log=is_log)
    values = list(override.sweep_string_iterator())
    if isinstance(sweep, RangeSweep) and isinstance(sweep.start, int) and isinstance(sweep.step, int):
        return IntDistribution(int(values[0]), int(values[-1]), step=sweep.step)
    return CategoricalDistribution(values)
