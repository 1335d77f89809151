"""Convolutions that take the place of nn.Conv2d: one file a layer, and this contract.

**Layer.** Takes nn.Conv2d's arguments in nn.Conv2d's order (in_channels, out_channels, kernel_size,
stride, padding, dilation, groups, bias); its own knobs are keyword-only. Returns exactly nn.Conv2d's
output shape, odd sizes included. Refuses in `__init__` what it cannot do, with a ValueError that names
the argument, its value, the rule and the nearest value that works. Knows torch and
models.geometry and models.approximation, nothing else: no printing, no configuration, no neighbours.

**Cheap.** Where a layer costs as many MACs as the convolution or more, the convolution stays, with that as the reason
(models/rebuild.py); no layer checks it. There are two exceptions: a gated layer may cost more, and a convolution of
another kind, such as a dilated one, may cost the same.

**Gated layer.** Sets the class attribute `is_gated = True` and has two children: `conv`, what closed
positions need not compute (the convolution, alone or followed by what treats each position by itself, such as
BatchNorm and ReLU), and `gate`, whose output is the gate map (N, 1 or out_channels, H', W'), never negative.
The layer returns conv(x) * gate(x). A forward hook on `gate` sees the map; nothing is stored. A layer knows nothing of
skipping: models/inference/deploy.py replaces it, for inference, by a module that computes open positions only.

**Normalisation.** A layer made of several convolutions follows the network it stands in. Where the
replaced convolution has no bias its network normalises, and a BatchNorm follows each inner part; where
it has a bias every part has one, and no BatchNorm is added. The last part is linear, as the convolution was:
what follows it is the network's own.

**Cost.** nn.Conv1d to 3d, nn.ConvTranspose2d and nn.Linear are counted by models/cost.py. A module that computes
otherwise has a method `macs(input_shape, output_shape) -> int`, N included, which must agree with torch's counter.

**Budget.** A layer that can trade accuracy for MACs names the knob and the values worth trying in the class
attribute `budget_knob = ("depth", (1, 2, 3))`; models/budget.py chooses. Where an argument of a layer is a layer
itself (`projection`) and has a knob, that one is used.

**Training.** A module whose class or instance has `lr_scale` gets its parameters trained at the base
learning rate times that number and without weight decay (models/training/param_groups.py).

**Initialisation.** models/init.py gives every convolution and BatchNorm its start. A module with a method
`init_from_batch(x)` is called before the first step with its input of the first training batch, in the network's own
precision. What it does to its parameters stays; buffers, such as running statistics, are put back.

**From a trained convolution.** A layer that can approximate the convolution in whose place it stands has two methods.
`init_from_conv(weight, bias)` starts it from the filters alone: equal, in evaluation, where it can express them. Then
`fit_to(x, y)` brings it nearer to the convolution's output y on a batch x of its inputs, up to a constant for each
channel where it has no bias, and leaves what is equal as it is. models/approximation.py has the algebra for both.

Adding a layer = one file here, one YAML in conf/model/layer, one test; nothing enumerates them.
"""

from torch import nn


def gated_layers(net: nn.Module) -> dict[str, nn.Module]:
    """The layers of `net` whose output is a convolution times a gate, by their dotted names."""
    return {name: module for name, module in net.named_modules() if getattr(module, "is_gated", False)}
