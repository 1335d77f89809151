"""Start a rebuilt network from a trained plain one: each layer approximates the convolution that it replaces."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .approximation import fit
from .watch import watched

MOST_IMAGES = 256
MOST_OUTPUTS = 2**25  # values of the convolutions' outputs that are kept at a time, which bounds the memory


@dataclass(frozen=True)
class Start:
    """How a network began: which layers approximate a convolution, and what found nothing to begin from.

    `unlike` are the layers that know of no approximation, `anew` the weights of another number of classes: both keep
    their random start.
    """

    approximated: list[str]
    unlike: list[str]
    anew: list[str]
    errors: dict[str, float] = field(default_factory=dict)
    """Of each layer that replaces a convolution, the error of its output relative to the convolution's own."""


@torch.no_grad()
def start_from(net: nn.Module, source: nn.Module) -> Start:
    """Give `net` the weights of `source`, a trained network of the same backbone whose convolutions `net` replaces.

    What both have is copied. A layer in the place of one of `source`'s convolutions comes as near to it as it can by
    its weights alone (`init_from_conv`). A weight that differs in the number of classes stays as it is. ValueError
    where the networks differ in anything else, which is then named.
    """
    convs = {name: conv for name, conv in source.named_modules() if isinstance(conv, nn.Conv2d)}
    layers = {name: net.get_submodule(name) for name in convs if _replaces(net, name)}
    approximated = [name for name, layer in layers.items() if hasattr(layer, "init_from_conv")]
    theirs, ours = source.state_dict(), net.state_dict()
    shared = {name: weights for name, weights in theirs.items() if not _belongs_to(name, layers)}
    wanted = {name: weights for name, weights in ours.items() if not _belongs_to(name, layers)}
    anew = _of_other_classes(shared, wanted)
    for name in [*wanted, *shared]:
        there, here = (tuple(each[name].shape) if name in each else "missing" for each in (shared, wanted))
        if there != here and name not in anew:
            raise ValueError(f"{name} is {there} in the network to start from and {here} here; it must be of one shape")
    net.load_state_dict({name: weights for name, weights in shared.items() if name not in anew}, strict=False)
    for name in approximated:
        conv, init = convs[name], getattr(layers[name], "init_from_conv")  # noqa: B009
        init(conv.weight, conv.bias)
    return Start(approximated, [name for name in layers if name not in approximated], anew)


def _replaces(net: nn.Module, name: str) -> bool:
    """Whether another layer stands in `net` where a plain convolution is called `name`."""
    try:
        return type(net.get_submodule(name)) is not nn.Conv2d
    except AttributeError:
        return False


def _belongs_to(name: str, layers: Mapping[str, nn.Module]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:depth]) in layers for depth in range(1, len(parts)))


def _of_other_classes(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> list[str]:
    """The names of the last weights that differ in their first size alone: a classifier's, with its bias."""
    both = [name for name in ours if name in theirs]
    differ = [name for name in both if theirs[name].shape != ours[name].shape]
    sizes = {(len(theirs[name]), len(ours[name])) for name in differ if theirs[name].shape[1:] == ours[name].shape[1:]}
    last = both[len(both) - len(differ) :]
    return differ if differ == last and len(sizes) == 1 else []


@torch.no_grad()
def calibrate(net: nn.Module, source: nn.Module, start: Start, images: Tensor) -> Start:
    """Bring `net`, which `start_from` started, nearer to `source` on `images` (N, C, H, W), and measure how near.

    In order of execution, so that each layer sees what those before it have become, a layer is fitted to the output of
    the convolution in `source` by least squares (`fit_to`), and a BatchNorm's statistics move as far as those of its
    input have moved: where nothing did, nothing changes. Both networks are in evaluation mode after it.
    """
    layers = {name: net.get_submodule(name) for name in [*start.approximated, *start.unlike]}
    norms = {
        name: norm
        for name, norm in net.named_modules()
        if isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats and not _belongs_to(name, layers)
    }
    images = images[:MOST_IMAGES]
    outputs, moments, images = _seen(source.eval(), list(layers), list(norms), images)
    errors: dict[str, float] = {}

    def before(name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if name in outputs and hasattr(layer, "fit_to"):
            fit(layer, inputs[0], outputs[name])

    def after(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if name in outputs:
            errors[name] = _relative_error(output, outputs.pop(name))

    def shift(name: str, norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        if name in moments:
            _follow(norm, moments.pop(name), _moments(inputs[0]))

    with watched(layers, before=before, after=after), watched(norms, before=shift):
        net.eval()(images)
    return Start(start.approximated, start.unlike, start.anew, errors)


Moments = tuple[Tensor, Tensor]


def _seen(
    source: nn.Module, convs: list[str], norms: list[str], images: Tensor
) -> tuple[dict[str, Tensor], dict[str, Moments], Tensor]:
    """What `convs` return and the moments of what `norms` take, each at first; and the images, as many as fit."""
    outputs: dict[str, Tensor] = {}
    moments: dict[str, Moments] = {}

    def output(name: str, conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs.setdefault(name, output.clone())  # what follows may work in place

    def input(name: str, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        moments.setdefault(name, _moments(inputs[0]))

    with watched({name: source.get_submodule(name) for name in convs}, after=output):
        source(images[:1])
    fit_in = MOST_OUTPUTS // max(1, sum(each.numel() for each in outputs.values()))
    outputs.clear()
    images = images[: max(1, fit_in)]
    modules = {name: source.get_submodule(name) for name in [*convs, *norms]}
    with (
        watched({name: modules[name] for name in convs}, after=output),
        watched({name: modules[name] for name in norms}, before=input),
    ):
        source(images)
    return outputs, moments, images


def _moments(x: Tensor) -> Moments:
    var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    return mean, var


def _follow(norm: nn.BatchNorm2d, before: Moments, now: Moments) -> None:
    """Move the running statistics as the moments of the input moved, so that those of the output stay."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    ratio = (now[1] + norm.eps) / (before[1] + norm.eps)
    norm.running_mean.copy_(now[0] + (norm.running_mean - before[0]) * ratio.sqrt())
    norm.running_var.mul_(ratio)


def _relative_error(output: Tensor, wanted: Tensor) -> float:
    """The root mean square of the difference over that of `wanted`, each around its channel's mean."""
    parts = [each - each.mean((0, 2, 3), keepdim=True) for each in (output - wanted, wanted)]
    return float(parts[0].norm() / parts[1].norm().clamp(min=1e-12))
