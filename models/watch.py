"""Watch the modules of a network at work: hooks that are there as long as they are needed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)
Inputs = tuple[Any, ...]


@contextmanager
def watched(
    modules: Mapping[str, M],
    *,
    before: Callable[[str, M, Inputs], object] | None = None,
    after: Callable[[str, M, Inputs, Any], object] | None = None,
) -> Iterator[None]:
    """Call `before(name, module, inputs)` and `after(name, module, inputs, output)` around their forward passes.

    `inputs` are the positional arguments, then those by keyword. What is called changes neither inputs nor output. The
    hooks are removed when the block ends, also by an error.
    """
    with ExitStack() as hooks:
        for name, module in modules.items():
            if before:
                hook = _before(before, name)
                hooks.enter_context(module.register_forward_pre_hook(hook, prepend=True, with_kwargs=True))
            if after:
                hooks.enter_context(module.register_forward_hook(_after(after, name), with_kwargs=True))
        yield


def _before(see: Callable[[str, Any, Inputs], object], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: Inputs, kwargs: dict[str, Any]) -> None:
        see(name, module, (*args, *kwargs.values()))

    return hook


def _after(see: Callable[[str, Any, Inputs, Any], object], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: Inputs, kwargs: dict[str, Any], output: Any) -> None:
        see(name, module, (*args, *kwargs.values()), output)

    return hook
