"""The arguments of cheapconv::gated_conv2d: their order, which its schema and every implementation take from here."""

from typing import NamedTuple, get_type_hints

from torch import Tensor

Pair = list[int]


class Arguments(NamedTuple):
    """What one call of cheapconv::gated_conv2d is given (models/inference/kernels/gated_conv.py says what it computes).

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
        _, _, *sizes = self.x.shape
        _, _, *kernel = self.weight.shape
        height, width = (
            (size + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
            for size, taps, padding, dilation, stride in zip(
                sizes, kernel, self.padding, self.dilation, self.stride, strict=True
            )
        )
        return height, width

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
        for name, shape in wanted.items():
            tensor = getattr(self, name)
            if tensor is not None and tuple(tensor.shape) != shape:
                raise ValueError(
                    f"{name} of shape {tuple(tensor.shape)}: must be {shape} for x of {tuple(self.x.shape)}"
                )
        if c % self.groups or t % self.groups:
            raise ValueError(f"groups={self.groups}: must divide the {c} input and the {t} output channels")
        if not self.gate_ceiling > 0:
            raise ValueError(f"gate_ceiling={self.gate_ceiling}: must be positive; infinity for none")


def schema() -> str:
    """The arguments in the language of PyTorch's operator schemas."""
    words = {Tensor: "Tensor", Tensor | None: "Tensor?", Pair: "SymInt[2]", int: "SymInt", float: "float", bool: "bool"}
    return ", ".join(f"{words[type_]} {name}" for name, type_ in get_type_hints(Arguments).items())
