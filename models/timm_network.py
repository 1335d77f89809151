"""A network of ours with what timm's users expect of one: features, a head, another number of classes."""

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

from torch import Tensor, fx, nn

from .build import Input
from .cut import Cut, WithoutClassifier, cut
from .meta import run_on_meta
from .watch import watched


class TimmNetwork(nn.Module):
    """`net`, made for images (N, C, S, S) as `input` says, with the attributes and methods of timm's networks.

    Its classifier is the last linear layer or 1x1 convolution to run, and `num_features` are that one's inputs. A
    network where more than one layer depends on the number of classes has none: "" and 0.
    """

    def __init__(self, net: nn.Module, input: Input) -> None:
        super().__init__()
        self.net = net
        self.num_classes, self.in_chans, self._size = input.num_classes, input.channels, input.size
        self.classifier_name, self.num_features, self._make_classifier = _classifier(net, input)
        self.head_hidden_size = self.num_features

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map, before whatever averages it."""
        return fx.Interpreter(self.net, graph=self._cut.features).run(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits from the last map, or with `pre_logits` what comes without the classifier: (N, num_features)."""
        if pre_logits:
            return WithoutClassifier(self.net, self._cut.head, self.classifier_name).run(x)
        return fx.Interpreter(self.net, graph=self._cut.head).run(x)

    def get_classifier(self) -> nn.Module:
        """The layer that makes logits of `num_features` values; ValueError where there is none."""
        if not self.classifier_name:
            raise ValueError(
                "more than one layer of this network depends on the number of classes: it has no classifier"
            )
        return self.net.get_submodule(self.classifier_name)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new classifier for `num_classes`; with 0, none: an image becomes `num_features` values.

        ValueError where the network has no classifier, and for another pooling.
        """
        if global_pool not in (None, "avg"):
            raise ValueError(f"global_pool={global_pool!r}: these networks have one way of pooling; leave it out")
        self.get_classifier()
        new = self._make_classifier(num_classes).to(self._weight()) if num_classes else nn.Identity()
        self.net.set_submodule(self.classifier_name, new)
        self.num_classes = num_classes

    def reset_channels(self, in_chans: int) -> None:
        """A new first convolution for images of `in_chans` channels; ValueError where it is no plain convolution."""
        name = self.stem_name
        if name is None:
            raise ValueError(f"in_chans={in_chans}: the first layer of this network is no plain convolution")
        stem = self.net.get_submodule(name)
        assert isinstance(stem, nn.Conv2d)
        like = {key: getattr(stem, key) for key in ("kernel_size", "stride", "padding", "dilation", "padding_mode")}
        new = nn.Conv2d(in_chans, stem.out_channels, bias=stem.bias is not None, **like)
        self.net.set_submodule(name, new.to(self._weight()))
        self.in_chans = in_chans

    @property
    def stem_name(self) -> str | None:
        """The first convolution, where it is a plain one that takes the image."""
        convs = ((name, module) for name, module in self.net.named_modules() if isinstance(module, nn.Conv2d))
        name, stem = next(convs, ("", None))
        plain = type(stem) is nn.Conv2d and stem.in_channels == self.in_chans and stem.groups == 1
        return name if plain else None

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """Of the last map of each size, in timm's words: its module, its channels, how much smaller it is."""
        return [
            {"num_chs": level.channels, "reduction": level.reduction, "module": f"net.{level.module}"}
            for level in self._cut.levels
        ]

    def _weight(self) -> Tensor:
        """One whose device and type new ones take."""
        return next(self.net.parameters())

    @cached_property
    def _cut(self) -> Cut:
        return cut(self.net, self.classifier_name, (self.in_chans, self._size, self._size))


def _classifier(net: nn.Module, input: Input) -> tuple[str, int, Callable[[int], nn.Module]]:
    """Name and inputs of the classifier, and what makes one for another number of classes."""
    ran: dict[str, nn.Module] = {}

    def see(name: str, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        ran.pop(name, None)
        ran[name] = module

    kinds = {name: module for name, module in net.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    with watched(kinds, after=see):
        run_on_meta(net, (1, *input.shape))
    name, last = next(reversed(ran.items()), ("", None))
    if isinstance(last, nn.Linear):
        inputs, make = last.in_features, partial(nn.Linear, last.in_features, bias=last.bias is not None)
    elif isinstance(last, nn.Conv2d) and last.kernel_size == (1, 1) and last.groups == 1:
        inputs = last.in_channels
        make = partial(nn.Conv2d, last.in_channels, kernel_size=1, bias=last.bias is not None)
    else:
        return "", 0, nn.Identity
    return (name, inputs, make) if _passes_on(net, name, last, (1, *input.shape), inputs) else ("", 0, nn.Identity)


def _passes_on(
    net: nn.Module, name: str, classifier: nn.Module, images: tuple[int, int, int, int], inputs: int
) -> bool:
    """Whether `net` returns what its `classifier` takes, `inputs` values for an image, where that is left out."""
    net.set_submodule(name, nn.Identity())
    try:
        return tuple(run_on_meta(net, images).shape) == (1, inputs)
    except (RuntimeError, ValueError):  # of what stands behind it
        return False
    finally:
        net.set_submodule(name, classifier)
