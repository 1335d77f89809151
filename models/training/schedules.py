"""Learning-rate schedules in epochs, stepped after every optimizer step; timm computes them.

`num_steps` and `steps_per_epoch` count optimizer steps of the run and of an epoch. The run may end within an epoch.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from timm.scheduler.cosine_lr import CosineLRScheduler
from timm.scheduler.multistep_lr import MultiStepLRScheduler
from timm.scheduler.poly_lr import PolyLRScheduler
from timm.scheduler.scheduler import Scheduler
from timm.scheduler.step_lr import StepLRScheduler
from torch.optim import Optimizer

WARMUP_START = 0.1  # the share of the base rate at which a warm-up begins


def cosine(optimizer: Optimizer, num_steps: int, steps_per_epoch: int, *, warmup_epochs: float) -> Scheduler:
    """A linear warm-up to the base rate, then half a cosine to zero: `num_steps` together."""
    warmup = _warmup(optimizer, num_steps, steps_per_epoch, warmup_epochs)
    rest = num_steps - warmup["warmup_t"]
    return CosineLRScheduler(optimizer, t_initial=rest, t_in_epochs=False, warmup_prefix=True, **warmup)


def polynomial(
    optimizer: Optimizer, num_steps: int, steps_per_epoch: int, *, power: float, warmup_epochs: float
) -> Scheduler:
    """A linear warm-up to the base rate, then (1 - progress) ** `power` of it down to zero: `num_steps` together."""
    warmup = _warmup(optimizer, num_steps, steps_per_epoch, warmup_epochs)
    rest = num_steps - warmup["warmup_t"]
    return PolyLRScheduler(optimizer, t_initial=rest, power=power, t_in_epochs=False, warmup_prefix=True, **warmup)


def exponential(
    optimizer: Optimizer,
    num_steps: int,
    steps_per_epoch: int,
    *,
    gamma: float,
    every_epochs: float,
    warmup_epochs: float,
) -> Scheduler:
    """The base rate times `gamma` again after every `every_epochs` epochs."""
    steps = round(every_epochs * steps_per_epoch)
    if steps < 1:
        raise ValueError(f"scheduler.every_epochs={every_epochs}: less than a step; nearest: {1 / steps_per_epoch:g}")
    warmup = _warmup(optimizer, num_steps, steps_per_epoch, warmup_epochs)
    return StepLRScheduler(optimizer, steps, gamma, t_in_epochs=False, warmup_prefix=False, **warmup)


def multistep(
    optimizer: Optimizer,
    num_steps: int,
    steps_per_epoch: int,
    *,
    milestones: Sequence[float],
    gamma: float,
    warmup_epochs: float,
) -> Scheduler:
    """The base rate times `gamma` for each of the `milestones` (in epochs) that has passed."""
    steps = [round(epoch * steps_per_epoch) for epoch in milestones]
    if any(step >= num_steps for step in steps):
        raise ValueError(
            f"scheduler.milestones={list(milestones)}: the last must come before the end, "
            f"epoch {num_steps / steps_per_epoch:g}; set trainer.max_epochs or scheduler.milestones"
        )
    warmup = _warmup(optimizer, num_steps, steps_per_epoch, warmup_epochs)
    late = [step + 1 for step in steps]  # timm decays one update before its decay_t
    return MultiStepLRScheduler(
        optimizer, decay_t=late, decay_rate=gamma, t_in_epochs=False, warmup_prefix=False, **warmup
    )


def piecewise(
    optimizer: Optimizer, num_steps: int, steps_per_epoch: int, *, ends: Sequence[float], rates: Sequence[float]
) -> Scheduler:
    """The base rate times `rates[i]` until the fraction `ends[i]` of the run, and times the last rate from there on."""
    if len(rates) != len(ends) + 1 or not all(a < b for a, b in pairwise([0.0, *ends, 1.0])):
        raise ValueError(
            f"scheduler.ends={list(ends)}, scheduler.rates={list(rates)}: ends must rise within (0, 1), and one more "
            "rate than ends is needed; the LCCL authors' are ends=[0.03,0.45,0.7,0.9] rates=[0.1,1,0.1,0.01,0.001]"
        )
    return _Piecewise(optimizer, [round(end * num_steps) for end in ends], rates)


class _Piecewise(Scheduler):
    """The base rate times `rates[i]` before step `ends[i]`, and times the last rate from there on."""

    def __init__(self, optimizer: Optimizer, ends: Sequence[int], rates: Sequence[float]) -> None:
        super().__init__(optimizer, "lr", t_in_epochs=False)
        self.ends, self.rates = ends, rates

    def _get_lr(self, t: int) -> list[float]:
        return [base * self.rates[bisect_right(self.ends, t)] for base in self.base_values]


def _warmup(optimizer: Optimizer, num_steps: int, steps_per_epoch: int, warmup_epochs: float) -> dict:
    steps = round(warmup_epochs * steps_per_epoch)
    if not 0 <= steps < num_steps:
        raise ValueError(
            f"scheduler.warmup_epochs={warmup_epochs}: the warm-up must be shorter than the run, "
            f"{num_steps / steps_per_epoch:g} epochs; nearest: {(num_steps - 1) / steps_per_epoch:g}"
        )
    base = optimizer.param_groups[0]["initial_lr"]
    return {"warmup_t": steps, "warmup_lr_init": WARMUP_START * base}
