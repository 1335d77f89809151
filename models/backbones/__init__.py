"""Networks made of nn.Conv2d that know nothing of rebuilding: one file a family, and this contract.

A backbone is a function `f(num_classes, input_size, in_channels, *, own knobs) -> nn.Module` whose module
maps images (N, in_channels, input_size, input_size) to logits (N, num_classes). The defaults of the first
three are the paper's own, and what the network is counted on when no data set is named.

Up to SMALL_INPUT pixels a network that was made for larger images takes its CIFAR form, without its first strides: a
stem that subsamples costs more accuracy there than it saves time. What an input leaves before the last pooling
is at least 2 x 2, or the input is refused with the nearest size that works.

One that takes `pretrained=True` then returns a trained network: the weights that a training starts from.
"""

SMALL_INPUT = 64


def require_room(input_size: int, smallest: int, reduction: str) -> None:
    """Raise ValueError where `input_size` is below `smallest`, of which `reduction` ("three halvings") leaves 2 x 2."""
    if input_size < smallest:
        raise ValueError(f"input_size={input_size}: {reduction} must leave at least 2 x 2; nearest: {smallest}")
