"""Where a network ends that finds features and where its head begins, which makes logits of them."""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Level:
    """The last map of one size: the name of the module that returns it, its channels and how much smaller it is."""

    module: str
    channels: int
    reduction: int


@dataclass(frozen=True)
class Cut:
    """Two halves of the forward pass of a network and the maps of its first half, the largest first."""

    features: fx.Graph
    head: fx.Graph
    levels: list[Level]


def cut(net: nn.Module, classifier: str, image: Shape) -> Cut:
    """Cut the forward pass of `net` on images (C, S, S) behind the last map before its `classifier`, a module's name.

    Without one ("") it is the last map before the logits. A map is what has more than one value for each channel:
    (N, C, H, W), or the tokens of a transformer. The forward pass is that of evaluation. Raises ValueError where it
    cannot be traced, or where what comes behind the map also takes something else from before it.
    """
    like = copy.deepcopy(net).to("meta").eval()
    try:
        graph = _Outline(classifier).trace(like)
    except Exception as error:  # whatever a forward pass does with a stand-in for a tensor
        raise ValueError(f"the forward pass of {type(net).__name__} cannot be cut: {error}") from error
    shapes = _shapes(like, graph, image)
    nodes = list(graph.nodes)
    last = next((place for place, node in enumerate(nodes) if _is_module(node, classifier)), len(nodes) - 1)
    maps = [place for place, node in enumerate(nodes[:last]) if _is_map(shapes.get(node, ())) and place]
    if not maps:
        raise ValueError(f"{type(net).__name__} has no map before its logits")
    behind = nodes[maps[-1] + 1 :]
    if {used for node in behind for used in node.all_input_nodes} - {*behind, nodes[maps[-1]]}:
        raise ValueError(f"the head of {type(net).__name__} takes more than one map")
    return Cut(*_halves(nodes, maps[-1]), _levels([nodes[place] for place in maps], shapes, image[-1]))


class WithoutClassifier(fx.Interpreter):
    """Runs a graph of a network without its module `classifier`."""

    def __init__(self, net: nn.Module, graph: fx.Graph, classifier: str) -> None:
        super().__init__(net, graph=graph)
        self.classifier = classifier

    def call_module(self, target, args, kwargs):
        return args[0] if target == self.classifier else super().call_module(target, args, kwargs)


class _Outline(fx.Tracer):
    """Traces what a network does with its modules, and looks into those that hold the `classifier` or are sequences."""

    def __init__(self, classifier: str) -> None:
        super().__init__()
        self.classifier = classifier

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) is not nn.Sequential and not self.classifier.startswith(f"{module_qualified_name}.")


class _Shapes(fx.Interpreter):
    """Keeps the shape of what each node returns."""

    def __init__(self, net: nn.Module, graph: fx.Graph) -> None:
        super().__init__(net, graph=graph)
        self.shapes: dict[fx.Node, Shape] = {}

    def run_node(self, n: fx.Node) -> object:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n] = tuple(result.shape)
        return result


def _shapes(net: nn.Module, graph: fx.Graph, image: Shape) -> dict[fx.Node, Shape]:
    run = _Shapes(net, graph)
    with torch.no_grad():
        run.run(torch.empty(1, *image, device="meta"))
    return run.shapes


def _is_module(node: fx.Node, name: str) -> bool:
    return node.op == "call_module" and node.target == name


def _is_map(shape: Shape) -> bool:
    return len(shape) > 2 and math.prod(shape[2:]) > 1


def _halves(nodes: list[fx.Node], place: int) -> tuple[fx.Graph, fx.Graph]:
    """The nodes up to `place` as one graph, those behind it as another, which begins with what the first returns."""
    features, head = fx.Graph(), fx.Graph()
    features.output(_copied(nodes[: place + 1], features, {}))
    _copied(nodes[place + 1 :], head, {nodes[place]: head.placeholder("features")})
    return features, head


def _copied(nodes: Iterable[fx.Node], graph: fx.Graph, known: dict[fx.Node, fx.Node]) -> fx.Node | None:
    """Copies `nodes` to the end of `graph`; the last copy. `known` are the copies of what they take."""
    copied = None
    for node in nodes:
        copied = known[node] = graph.node_copy(node, known.__getitem__)
    return copied


def _levels(maps: list[fx.Node], shapes: dict[fx.Node, Shape], size: int) -> list[Level]:
    """The last node of each width that is the output of a module."""
    last = {shapes[node][-1]: node for node in maps if node.op == "call_module" and len(shapes[node]) == 4}
    return [Level(str(node.target), shapes[node][1], size // width) for width, node in last.items() if width > 1]
