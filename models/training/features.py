"""Learn from the features of a teacher: a loss between feature maps of the same size."""

import logging
from collections import Counter
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..meta import run_on_meta
from ..watch import watched

log = logging.getLogger(__name__)


class Stage(NamedTuple):
    """The module of a network whose output ends a stage, and how many channels it has."""

    module: str
    channels: int


class FeatureMatching:
    """`weight` times the mean of (r(s) - t)^2 over the features s of a student's stage and t of the teacher's.

    Source: the hints of Romero et al. 2015, FitNets, arXiv:1412.6550, equation 3. A regressor r is a 1x1 convolution
    where the numbers of channels differ, and nothing where they do not. The loss is averaged over the stages that end
    at a size that both networks have, for images of `input_shape` (C, H, W).
    Differs: a hint in each such stage and through all of the training, instead of one in the middle and before it.

    The regressors are trained with the student but are no part of it, nor of any module. Raises ValueError where
    `weight` is not positive or the two networks have no size in common.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, input_shape: tuple[int, int, int], *, weight: float
    ) -> None:
        if not 0 < weight < float("inf"):
            raise ValueError(f"distillation.features={weight}: must be positive, or null for none; 10 is a start")
        ours, theirs = stages(student, input_shape), stages(teacher, input_shape)
        pairs = {size: (stage, theirs[size]) for size, stage in ours.items() if size in theirs}
        if not pairs:
            raise ValueError(
                f"distillation.features={weight}: the student's features are {_told(ours)} pixels wide, the teacher's "
                f"{_told(theirs)}, and none of the same size; choose another teacher, or null"
            )
        self.weight = weight
        self.regressors = nn.ModuleDict({str(size): _regressor(*pair) for size, pair in pairs.items()})
        self.student: dict[int, Tensor] = {}  # features of the current step, by width
        self.teacher: dict[int, Tensor] = {}
        for size, (here, there) in pairs.items():
            student.get_submodule(here.module).register_forward_hook(partial(_keep, self.student, size))
            teacher.get_submodule(there.module).register_forward_hook(partial(_keep, self.teacher, size))
            log.info(f"features of {size} x {size} pixels: {here.module} learns from the teacher's {there.module}")

    def take(self) -> Tensor:
        """The loss of the last forward passes of both networks, a scalar with its graph; none of it is kept."""
        losses = []
        for size, regressor in self.regressors.items():
            features, hint = regressor(self.student.pop(int(size))), self.teacher.pop(int(size))
            wide = torch.promote_types(hint.dtype, torch.float32)  # squares overflow in half precision
            losses.append(F.mse_loss(features.to(wide), hint.to(wide)))
        return self.weight * torch.stack(losses).mean()


def stages(net: nn.Module, input_shape: tuple[int, int, int]) -> dict[int, Stage]:
    """Where stages end: by width of the feature maps (N, C, W, W), the last module of those nested least deep.

    Maps of a group's elements (N, C, |G|, W, W) count as C |G| channels. A module that runs several times is passed
    over: its output would be that of its last run.
    """
    outputs: list[tuple[str, torch.Size]] = []

    def note(name: str, module: nn.Module, inputs: tuple, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim > 3 and len(output) == 1:
            outputs.append((name, output.flatten(1, -3).shape))

    with watched(dict(net.named_modules()), after=note):
        run_on_meta(net, (1, *input_shape))
    runs, found = Counter(name for name, _ in outputs), dict[int, Stage]()
    for name, (_, channels, height, width) in outputs:
        is_map = height == width > 1 and runs[name] == 1
        if is_map and (width not in found or name.count(".") <= found[width].module.count(".")):
            found[width] = Stage(name, channels)
    return found


def _regressor(student: Stage, teacher: Stage) -> nn.Module:
    if student.channels == teacher.channels:
        return nn.Identity()
    return nn.Conv2d(student.channels, teacher.channels, kernel_size=1)


def _keep(features: dict[int, Tensor], size: int, module: nn.Module, inputs: tuple, output: Tensor) -> None:
    features[size] = output.flatten(1, -3)


def _told(found: dict[int, Stage]) -> str:
    return ", ".join(map(str, found)) or "none"
