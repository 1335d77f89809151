"""Replace the convolutions of a network: the only code that changes a module tree."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from models.geometry import ConvGeometry
from models.meta import run_on_meta
from models.scope import Site

Layer = Callable[..., nn.Module]
Scope = Callable[[Sequence[Site]], dict[str, str]]
Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Swap:
    """What became of one convolution: replaced, or kept for a reason."""

    name: str
    reason: str = ""

    @property
    def replaced(self) -> bool:
        return not self.reason


def rebuild(net: nn.Module, layer: Layer, scope: Scope, input_shape: Shape) -> list[Swap]:
    """Replace in `net` every convolution that `scope` selects; one record each, in order of execution.

    `input_shape` is (N, C, H, W). A convolution that the layer refuses is kept, with the layer's own
    message as the reason. Raises ValueError where nothing is replaced or a replacement does not return
    the shape of the convolution it replaces; the baseline, nn.Conv2d itself, may replace nothing.
    """
    convs = {name: module for name, module in net.named_modules() if isinstance(module, nn.Conv2d)}
    shapes = _shapes(convs, net, input_shape)
    executed = [*shapes, *(name for name in convs if name not in shapes)]
    kept = {name: reason for name in executed if (reason := _unfit(convs[name], name in shapes))}
    sites = [site for site in _sites(convs, shapes) if site.name not in kept]
    kept |= scope(sites)
    swaps = [Swap(name, kept.get(name) or _replace(net, convs[name], layer, shapes[name])) for name in executed]
    if getattr(layer, "func", layer) is not nn.Conv2d:  # a network may stay what it is, e.g. one without any nn.Conv2d
        _require_a_replacement(swaps)
    return swaps


@dataclass(frozen=True)
class _Shapes:
    input: Shape
    output: Shape


def _shapes(convs: dict[str, nn.Conv2d], net: nn.Module, input_shape: Shape) -> dict[str, _Shapes]:
    """What each convolution that runs takes and returns, in order of (first) execution."""
    shapes: dict[str, _Shapes] = {}

    def watch(name: str, conv: nn.Conv2d):
        def hook(module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
            shapes.setdefault(name, _Shapes(_four(args[0]), _four(output)))

        return conv.register_forward_hook(hook)

    handles = [watch(name, conv) for name, conv in convs.items()]
    try:
        run_on_meta(net, input_shape)
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def _four(tensor: Tensor) -> Shape:
    n, c, h, w = tensor.shape
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


def _sites(convs: dict[str, nn.Conv2d], shapes: dict[str, _Shapes]) -> list[Site]:
    sizes = sorted({shape.output[2:] for shape in shapes.values()}, reverse=True)
    stem = next(iter(shapes), "")
    return [Site(name, convs[name], name == stem, sizes.index(shapes[name].output[2:]) + 1) for name in shapes]


def _replace(net: nn.Module, conv: nn.Conv2d, layer: Layer, shapes: _Shapes) -> str:
    """Put a new layer wherever `conv` stands (a shared module stands in several places)."""
    try:
        replacement = layer(*ConvGeometry.of(conv).arguments())
    except ValueError as refusal:
        return str(refusal)
    returned = _four(run_on_meta(replacement, shapes.input))
    places = [name for name, module in net.named_modules(remove_duplicate=False) if module is conv]
    if returned != shapes.output:
        raise ValueError(f"the layer for {places[0]} returns {returned} where the convolution returned {shapes.output}")
    for place in places:
        net.set_submodule(place, replacement)
    return ""


def _require_a_replacement(swaps: list[Swap]) -> None:
    if any(swap.replaced for swap in swaps):
        return
    if not swaps:
        raise ValueError("this network has no nn.Conv2d to replace; only model/layer=conv leaves it as it is")
    reasons = "; ".join(f"{swap.name}: {swap.reason}" for swap in swaps[:5])
    raise ValueError(
        f"the scope and the layer leave all {len(swaps)} convolutions as they are ({reasons}"
        f"{'; ...' if len(swaps) > 5 else ''}); choose another model/scope or model/layer"
    )
