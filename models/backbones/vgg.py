"""VGG-16 in the form that CIFAR papers use."""

from torch import nn

from . import require_room

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, convolutions


def vgg16_cifar(
    num_classes: int = 10,
    input_size: int = 32,
    in_channels: int = 3,
    *,
    batch_norm: bool = True,
    bias: bool = False,
) -> nn.Module:
    """The thirteen convolutions of VGG-16, global average pooling and one linear layer.

    Source: Simonyan, Zisserman 2015, "Very Deep Convolutional Networks", arXiv:1409.1556, configuration D. A stage ends
    in a halving, the last one in the pooling. `bias` is that of the convolutions. Papers that compare convolutions
    often count neither biases nor BatchNorm: `batch_norm` and `bias` false.
    Differs: the original has three linear layers; papers that print 15.0 M parameters have a second one, 512 to 512.
    Below 32 px as many of the first halvings are left out as the last stage needs to see at least 2 x 2.
    """
    require_room(input_size, 2, "the halvings")
    halvings = min(4, input_size.bit_length() - 2)  # input_size / 2^halvings is at least 2
    body: list[nn.Module] = []
    inputs = in_channels
    for stage, (outputs, convs) in enumerate(STAGES):
        if stage > 4 - halvings:
            body.append(nn.MaxPool2d(2))
        for _ in range(convs):
            body.append(nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias))
            body += [nn.BatchNorm2d(outputs), nn.ReLU()] if batch_norm else [nn.ReLU()]
            inputs = outputs
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes))
