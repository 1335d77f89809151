"""Which convolutions of a network are replaced.

A scope is given the place of every convolution that could be replaced, in the order of execution, and returns by name
the reason of each one that stays; a convolution without a reason is replaced.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import pairwise

from torch import nn

from .geometry import ConvGeometry

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Place:
    """One convolution where it stands in a network, and what it takes and returns there.

    `is_stem`: it is the first convolution to run. `stage`: the rank of its output's height and width among all in the
    network, 1 for the largest.
    """

    name: str  # dotted
    conv: nn.Conv2d
    input_shape: Shape
    output_shape: Shape
    is_stem: bool
    stage: int

    @property
    def geometry(self) -> ConvGeometry:
        """Raises ValueError for a convolution that no layer could replace (ConvGeometry.of)."""
        return ConvGeometry.of(self.conv)


def all_convs(places: Sequence[Place]) -> dict[str, str]:
    """Every convolution, the stem and the 1x1 ones included."""
    return {}


def inner(places: Sequence[Place]) -> dict[str, str]:
    """Every convolution but the stem, the 1x1 ones included."""
    return {place.name: "stem" for place in places if place.is_stem}


def spatial(places: Sequence[Place]) -> dict[str, str]:
    """Every convolution whose kernel is larger than 1x1, except the stem."""
    return {place.name: reason for place in places if (reason := _not_spatial(place))}


def blocks(places: Sequence[Place]) -> dict[str, str]:
    """The spatial convolutions and, in bottlenecks (1x1, k x k, 1x1), the last 1x1; never the stem or a shortcut.

    The placement of Dong et al. 2017, arXiv:1703.08651. The parts of a bottleneck are told by their channels and their
    order of execution; squeeze-and-excitation may stand between them, a shortcut has to run before or after them.
    """
    ends = _bottleneck_ends(places)
    kept = {name: reason for name, reason in spatial(places).items() if name not in ends}
    return {name: "1x1 that ends no bottleneck" if reason == "1x1" else reason for name, reason in kept.items()}


def stages(places: Sequence[Place], *, stages: Sequence[int]) -> dict[str, str]:
    """The spatial convolutions of the given stages (1 = the largest output resolution of the network)."""
    known = sorted({place.stage for place in places})
    for stage in stages:
        if stage not in known:
            raise ValueError(f"scope stages={list(stages)}: there is no stage {stage}; this network has {known}")
    kept = {place.name: f"stage {place.stage}" for place in places if place.stage not in stages}
    return kept | spatial(places)


def names(places: Sequence[Place], *, patterns: Sequence[str]) -> dict[str, str]:
    """The convolutions whose dotted name matches a shell pattern, e.g. `layer3.*.conv2`."""
    known = [place.name for place in places]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            near = get_close_matches(pattern, known, n=3, cutoff=0.4) or known[:3]
            raise ValueError(f"scope pattern {pattern!r} matches no convolution; near it: {', '.join(near)}")
    return {name: "name" for name in known if not any(fnmatchcase(name, pattern) for pattern in patterns)}


def _not_spatial(place: Place) -> str:
    if place.is_stem:
        return "stem"
    return "1x1" if tuple(place.conv.kernel_size) == (1, 1) else ""


def _bottleneck_ends(places: Sequence[Place]) -> set[str]:
    """Names of each first 1x1 after a spatial convolution that itself runs right after a 1x1 and takes its output."""
    ends: set[str] = set()
    middle: Place | None = None
    for before, place in pairwise(places):
        if not _not_spatial(place):
            fed = _not_spatial(before) == "1x1" and before.conv.out_channels == place.conv.in_channels
            middle = place if fed else None
        elif middle and _takes_output(place, middle):
            ends.add(place.name)
            middle = None
    return ends


def _takes_output(place: Place, middle: Place) -> bool:
    """Squeeze-and-excitation takes it too, but pooled, to another stage, and with a bias where norms follow."""
    same_bias = (place.conv.bias is None) == (middle.conv.bias is None)
    return place.conv.in_channels == middle.conv.out_channels and place.stage == middle.stage and same_bias
