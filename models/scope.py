"""Which convolutions of a network are replaced.

A scope takes every site of the network, in the order of execution, and returns a reason for each
convolution that stays, by name; a convolution without a reason is replaced.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import pairwise

from torch import nn


@dataclass(frozen=True)
class Site:
    """One convolution as it stands in a network."""

    name: str  # dotted
    conv: nn.Conv2d
    is_stem: bool  # the first convolution executed
    stage: int  # 1, 2, ...: rank of its output resolution, the largest first


def all_convs(sites: Sequence[Site]) -> dict[str, str]:
    """Every convolution, the stem and the 1x1 ones included."""
    return {}


def inner(sites: Sequence[Site]) -> dict[str, str]:
    """Every convolution but the stem, the 1x1 ones included."""
    return {site.name: "stem" for site in sites if site.is_stem}


def spatial(sites: Sequence[Site]) -> dict[str, str]:
    """Every convolution whose kernel is larger than 1x1, except the stem."""
    return {site.name: reason for site in sites if (reason := _not_spatial(site))}


def blocks(sites: Sequence[Site]) -> dict[str, str]:
    """The spatial convolutions and, in bottlenecks (1x1, k x k, 1x1), the last 1x1; never the stem or a shortcut.

    The placement of Dong et al. 2017, arXiv:1703.08651. The parts of a bottleneck are told by their channels and their
    order of execution; squeeze-and-excitation may stand between them, a shortcut has to run before or after them.
    """
    ends = _bottleneck_ends(sites)
    kept = {name: reason for name, reason in spatial(sites).items() if name not in ends}
    return {name: "1x1 that ends no bottleneck" if reason == "1x1" else reason for name, reason in kept.items()}


def stages(sites: Sequence[Site], *, stages: Sequence[int]) -> dict[str, str]:
    """The spatial convolutions of the given stages (1 = the largest output resolution of the network)."""
    known = sorted({site.stage for site in sites})
    for stage in stages:
        if stage not in known:
            raise ValueError(f"scope stages={list(stages)}: there is no stage {stage}; this network has {known}")
    kept = {site.name: f"stage {site.stage}" for site in sites if site.stage not in stages}
    return kept | spatial(sites)


def names(sites: Sequence[Site], *, patterns: Sequence[str]) -> dict[str, str]:
    """The convolutions whose dotted name matches a shell pattern, e.g. `layer3.*.conv2`."""
    known = [site.name for site in sites]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            near = get_close_matches(pattern, known, n=3, cutoff=0.4) or known[:3]
            raise ValueError(f"scope pattern {pattern!r} matches no convolution; near it: {', '.join(near)}")
    return {name: "name" for name in known if not any(fnmatchcase(name, pattern) for pattern in patterns)}


def _not_spatial(site: Site) -> str:
    if site.is_stem:
        return "stem"
    return "1x1" if tuple(site.conv.kernel_size) == (1, 1) else ""


def _bottleneck_ends(sites: Sequence[Site]) -> set[str]:
    """Names of each first 1x1 after a spatial convolution that itself runs right after a 1x1 and takes its output."""
    ends: set[str] = set()
    middle: Site | None = None
    for before, site in pairwise(sites):
        if not _not_spatial(site):
            fed = _not_spatial(before) == "1x1" and before.conv.out_channels == site.conv.in_channels
            middle = site if fed else None
        elif middle and _takes_output(site, middle):
            ends.add(site.name)
            middle = None
    return ends


def _takes_output(site: Site, middle: Site) -> bool:
    """Squeeze-and-excitation takes it too, but pooled, to another stage, and with a bias where norms follow."""
    same_bias = (site.conv.bias is None) == (middle.conv.bias is None)
    return site.conv.in_channels == middle.conv.out_channels and site.stage == middle.stage and same_bias
