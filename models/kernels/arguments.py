"""The arguments of the operators: their order, which each schema and every implementation take from here."""

from collections.abc import Sequence
from typing import NamedTuple, get_type_hints

from torch import Tensor

Pair = list[int]


class Arguments(NamedTuple):
    """What one call of cheapconv::gated_conv2d is given (models/kernels/gated_conv.py says what it computes).

    Shapes: x (N, C, H, W), weight (T, C / groups, k, l), gate_weight (1, C, k', l'), gate_bias (1,), residual
    (N, T, H', W') with nn.Conv2d's H' and W', and bias, scale and shift (T,). The gate shares the convolution's stride
    and dilation. `gate_padding` is what the gate's convolution pads above and to the left of the image, where a
    negative number cuts off; below and to the right it pads as much as H' and W' need. Without a ceiling,
    `gate_ceiling` is infinite.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    gate_weight: Tensor
    gate_bias: Tensor
    scale: Tensor | None
    shift: Tensor | None
    residual: Tensor | None
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    gate_padding: Pair
    gate_ceiling: float
    inner_relu: bool
    relu: bool

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        return output_size(self.x.shape[2:], self.weight.shape[2:], self.stride, self.padding, self.dilation)

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        return self.x.shape[0], self.weight.shape[0], *self.output_size

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors that are given, in their order."""
        return [value for value in self if isinstance(value, Tensor)]

    def require_shapes(self) -> None:
        """Raise ValueError where the tensors do not fit each other."""
        t, c = self.weight.shape[0], self.x.shape[1]
        wanted = {
            "weight": (t, c // self.groups, *self.weight.shape[2:]),
            "bias": (t,),
            "gate_weight": (1, c, *self.gate_weight.shape[2:]),
            "gate_bias": (1,),
            "scale": (t,),
            "shift": (t,),
            "residual": self.output_shape,
        }
        _require(self, wanted)
        if c % self.groups or t % self.groups:
            raise ValueError(f"groups={self.groups}: must divide the {c} input and the {t} output channels")
        if not self.gate_ceiling > 0:
            raise ValueError(f"gate_ceiling={self.gate_ceiling}: must be positive; infinity for none")


class UnitArguments(NamedTuple):
    """What one call of cheapconv::unit is given (models/kernels/unit.py says what it computes).

    Shapes: x (N, C, H, W), depthwise (b C, 1, k, l), whose outputs i b to (i + 1) b are those of input i,
    depthwise_bias (b C,), weight (T, b C, 1, 1), or (T, C, k, l) without a depthwise convolution, bias, scale and shift
    (T,), both residuals (N, T, H', W') with nn.Conv2d's H' and W'. `depthwise_ceiling` is infinite for a ReLU, None
    where nothing follows the depthwise convolution; `connections`, the number of weights that are not zero by
    construction, is for who counts.
    """

    x: Tensor
    depthwise: Tensor | None
    depthwise_bias: Tensor | None
    weight: Tensor
    bias: Tensor | None
    inner_residual: Tensor | None
    scale: Tensor | None
    shift: Tensor | None
    residual: Tensor | None
    stride: Pair
    padding: Pair
    dilation: Pair
    depthwise_ceiling: float | None
    connections: int
    inner_relu: bool
    relu: bool

    @property
    def kernel_size(self) -> Pair:
        """Of the convolution that has the geometry."""
        return list((self.weight if self.depthwise is None else self.depthwise).shape[2:])

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        size = output_size(self.x.shape[2:], self.kernel_size, self.stride, self.padding, self.dilation)
        return self.x.shape[0], self.weight.shape[0], *size

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors that are given, in their order."""
        return [value for value in self if isinstance(value, Tensor)]

    def require_shapes(self) -> None:
        """Raise ValueError where the tensors do not fit each other."""
        t, c, output = self.weight.shape[0], self.x.shape[1], self.output_shape
        maps = c if self.depthwise is None else self.depthwise.shape[0]
        wanted = {
            "depthwise": (maps, 1, *self.kernel_size),
            "depthwise_bias": (maps,),
            "weight": (t, maps, *((1, 1) if self.depthwise is not None else self.kernel_size)),
            "bias": (t,),
            "inner_residual": output,
            "scale": (t,),
            "shift": (t,),
            "residual": output,
        }
        _require(self, wanted)
        if maps % c:
            raise ValueError(f"depthwise has {maps} filters: must be a multiple of the {c} inputs")
        if (self.scale is None) != (self.shift is None):
            raise ValueError("scale and shift go together: give both or neither")


def output_size(
    size: Sequence[int], kernel: Sequence[int], stride: Pair, padding: Pair, dilation: Pair
) -> tuple[int, int]:
    """Height and width of a convolution's output for an input of this size."""
    height, width = ((size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1))
    return height, width


def schema(arguments: type) -> str:
    """The arguments in the language of PyTorch's operator schemas."""
    words = {
        Tensor: "Tensor",
        Tensor | None: "Tensor?",
        Pair: "SymInt[2]",
        int: "SymInt",
        float: "float",
        float | None: "float?",
        bool: "bool",
    }
    return ", ".join(f"{words[type_]} {name}" for name, type_ in get_type_hints(arguments).items())


def _require(arguments: Arguments | UnitArguments, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise ValueError where a tensor that is given has not the shape that it must have."""
    for name, shape in shapes.items():
        tensor = getattr(arguments, name)
        if tensor is not None and tuple(tensor.shape) != shape:
            x = tuple(arguments.x.shape)
            raise ValueError(f"{name} of shape {tuple(tensor.shape)}: must be {shape} for x of {x}")
