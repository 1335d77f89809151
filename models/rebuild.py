"""Replace the convolutions of a network: the only code that changes a module tree before training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .cost import count
from .geometry import ConvGeometry
from .layers import gated_layers
from .macs import conv_macs
from .meta import run_on_meta
from .scope import Place, Shape
from .watch import watched

Layer = Callable[..., nn.Module]
Scope = Callable[[Sequence[Place]], dict[str, str]]


def made_by(layer: Layer) -> Any:
    """The class or function that `layer` is, or that it is a partial of."""
    return getattr(layer, "func", layer)


@dataclass(frozen=True)
class Swap:
    """What became of one convolution: replaced, or kept for a reason."""

    name: str
    reason: str = ""

    @property
    def replaced(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class Survey:
    """What a scope selects in a network, and by name why every other convolution stays; in order of execution."""

    places: list[Place]
    kept: dict[str, str]
    order: list[str]


def survey(net: nn.Module, scope: Scope, input_shape: Shape) -> Survey:
    """Run `net` on the meta device for an input of (N, C, H, W) and ask `scope` about each of its convolutions."""
    convs = {name: module for name, module in net.named_modules() if isinstance(module, nn.Conv2d)}
    places = _places(convs, net, input_shape)
    order = [*places, *(name for name in convs if name not in places)]
    kept = {name: reason for name in order if (reason := _unfit(convs[name], name in places))}
    kept |= scope([place for place in places.values() if place.name not in kept])
    return Survey([place for place in places.values() if place.name not in kept], kept, order)


def rebuild(net: nn.Module, found: Survey, layers: Mapping[str, Layer]) -> list[Swap]:
    """Replace in `net` every place of `found` by its layer in `layers`; one record each convolution.

    A convolution that has no `replacement` is kept, and the reason recorded.
    """
    reasons = found.kept | {place.name: _replace(net, place, layers[place.name]) for place in found.places}
    return [Swap(name, reasons[name]) for name in found.order]


def _places(convs: dict[str, nn.Conv2d], net: nn.Module, input_shape: Shape) -> dict[str, Place]:
    """Where each convolution that runs stands, in order of its first execution."""
    shapes: dict[str, tuple[Shape, Shape]] = {}

    def see(name: str, conv: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        shapes.setdefault(name, (_shape(inputs[0]), _shape(output)))

    with watched(convs, after=see):
        run_on_meta(net, input_shape)
    sizes = sorted({output[2:] for _, output in shapes.values()}, reverse=True)
    stem = next(iter(shapes), "")
    return {
        name: Place(name, convs[name], taken, returned, name == stem, sizes.index(returned[2:]) + 1)
        for name, (taken, returned) in shapes.items()
    }


def _shape(image: Tensor) -> Shape:
    n, c, h, w = image.shape
    return n, c, h, w


def _unfit(conv: nn.Conv2d, runs: bool) -> str:
    if not runs:
        return "not used in the forward pass"
    if type(conv) is not nn.Conv2d:
        return f"{type(conv).__name__} is more than nn.Conv2d"
    try:
        ConvGeometry.of(conv)
    except ValueError as refusal:
        return str(refusal)
    return ""


def replacement(layer: Layer, place: Place) -> tuple[nn.Module, str]:
    """What `layer` makes for `place`, and ""; or the convolution that is there, and why it stays.

    It stays where the layer refuses it, and where it costs no more MACs than what the layer makes. Two kinds of layers
    need not cost less: gated ones, which save as much as their gates close, and, at the same cost, a convolution
    of another kind, such as a dilated one. Raises ValueError where the layer does not return the convolution's shape.
    """
    try:
        made = layer(*place.geometry.arguments())
    except ValueError as refusal:
        return place.conv, str(refusal)
    returned = _shape(run_on_meta(made, place.input_shape))
    if returned != place.output_shape:
        raise ValueError(
            f"the layer for {place.name} returns {returned} where the convolution returned {place.output_shape}"
        )
    cost = count(made, place.input_shape[1:]).macs
    conv = conv_macs(tuple(place.conv.weight.shape), (1, *place.output_shape[1:]))
    if cost < conv or gated_layers(made) or (cost == conv and _is_another_kind(made, place.conv)):
        return made, ""
    much = "more MACs than" if cost > conv else "as many MACs as"
    return place.conv, f"{type(made).__name__} would cost {much} the convolution"


def _is_another_kind(made: nn.Module, conv: nn.Conv2d) -> bool:
    """Whether a convolution is made that differs from `conv`: in an argument, or in what else it does."""
    return any(isinstance(part, nn.Conv2d) and str(part) != str(conv) for part in made.modules())


def _replace(net: nn.Module, place: Place, layer: Layer) -> str:
    """Put a new layer wherever the convolution stands (a shared module stands in several places)."""
    made, reason = replacement(layer, place)
    for argument in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"):
        if not hasattr(made, argument):  # DaViT's forward reads its convolutions'
            setattr(made, argument, getattr(place.conv, argument))
    for name, module in [*net.named_modules(remove_duplicate=False)]:
        if module is place.conv and not reason:
            net.set_submodule(name, made)
    return reason


def require_a_replacement(swaps: list[Swap]) -> None:
    """ValueError where the scope and the layer leave everything as it is."""
    if any(swap.replaced for swap in swaps):
        return
    if not swaps:
        raise ValueError("this network has no nn.Conv2d to replace; only model/layer=conv leaves it as it is")
    reasons = "; ".join(f"{swap.name}: {swap.reason}" for swap in swaps[:5])
    raise ValueError(
        f"the scope and the layer leave all {len(swaps)} convolutions as they are ({reasons}"
        f"{'; ...' if len(swaps) > 5 else ''}); choose another model/scope or model/layer"
    )
