"""The programs that can run a network on this CPU, each behind one function, and which of them is fastest.

All of them compute in float32, on as many threads as torch.get_num_threads() says.
"""

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ..errors import first_line
from ..memory_format import channels_last
from . import export
from .deploy import deploy

TOLERANCE = 1e-4  # of the largest output
NO_OPENVINO = "openvino is not installed: pip install openvino"


class Network:
    """A network in evaluation mode, and the forms of it that engines take, each made when it is first asked for.

    `image` is the shape (C, H, W) of what it takes. Its weights must not change afterwards.
    """

    def __init__(self, net: nn.Module, image: tuple[int, int, int]) -> None:
        self.net, self.image = net, image

    @cached_property
    def channels_last(self) -> nn.Module:
        return channels_last(copy.deepcopy(self.net).requires_grad_(False))

    @cached_property
    def deployed(self) -> nn.Module:
        return deploy(self.net)

    @cached_property
    def onnx(self) -> bytes:
        return export.onnx_file(export.exported(self.net, self.image), {})


@dataclass(frozen=True)
class Engine:
    """What makes a function from images (N, C, H, W) to logits of a network, ready for the shape of these images.

    It takes images in `memory_format` without copying them.
    """

    start: Callable[[Network, Tensor], export.Run]
    memory_format: torch.memory_format


def started(name: str, network: Network, images: Tensor) -> export.Run:
    """The function that computes `network` in the engine `name`, for batches of the shape of `images`.

    Raises ValueError where it cannot run the network here, and where its output for `images` differs from the
    network's by more than 1e-4 of the largest.
    """
    given = images.contiguous(memory_format=ENGINES[name].memory_format)
    try:
        run = ENGINES[name].start(network, given)
        got = run(given)
    except ValueError:
        raise
    except Exception as error:  # each engine has errors of its own
        raise ValueError(f"{name} cannot run this network ({first_line(error)})") from error
    with torch.no_grad():
        expected = network.net(images)
    difference, largest = (got - expected).abs().max().item(), expected.abs().max().item()
    if not difference <= TOLERANCE * largest:  # NaN is not
        raise ValueError(f"{name} computes something else: outputs of {largest:.3g} at most differ by {difference:.1e}")
    return run


def _eager(network: Network, images: Tensor) -> export.Run:
    return _without_gradients(network.channels_last)


def _deploy(network: Network, images: Tensor) -> export.Run:
    return _without_gradients(network.deployed)


def _compile(network: Network, images: Tensor) -> export.Run:
    """torch.compile, which may do more with weights that never change: it folds and reorders them ("freezing")."""
    from torch._inductor import config as inductor

    compiled = torch.compile(network.channels_last, dynamic=False)
    with torch.no_grad(), inductor.patch(freezing=True):
        compiled(images)  # compiles

    def run(images: Tensor) -> Tensor:
        with torch.no_grad():  # as it was compiled: in inference mode it would be compiled again
            return compiled(images)

    return run


def _onnxruntime(network: Network, images: Tensor) -> export.Run:
    return export.onnx_runtime(network.onnx, torch.get_num_threads())


def _openvino(network: Network, images: Tensor) -> export.Run:
    # The wheel brings a package that reports each import of it to its makers; without that package it is silent.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise ValueError(NO_OPENVINO) from error
    core = openvino.Core()
    model = core.read_model(network.onnx)
    model.reshape(list(images.shape))  # one shape: it chooses kernels for it
    how = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the processor has it
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,
    }
    compiled = core.compile_model(model, "CPU", how)
    return lambda images: torch.from_numpy(compiled(images.numpy(), share_inputs=True)[0])


def _without_gradients(net: nn.Module) -> export.Run:
    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return net(images)

    return run


ENGINES = {
    "eager": Engine(_eager, torch.channels_last),
    "deploy": Engine(_deploy, torch.channels_last),
    "compile": Engine(_compile, torch.channels_last),
    "onnxruntime": Engine(_onnxruntime, torch.contiguous_format),
    "openvino": Engine(_openvino, torch.contiguous_format),
}
