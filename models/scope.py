"""Which convolutions of a network are replaced.

A scope takes every site of the network, in the order of execution, and returns a reason for each
convolution that stays, by name; a convolution without a reason is replaced.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

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
