"""The programs that can run a network on this CPU, each behind one function, and which of them is fastest.

All of them compute in float32, on as many threads as torch.get_num_threads() says.
"""

import copy
import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from ..errors import first_line
from ..memory_format import channels_last
from . import export
from .deploy import deploy
from .slices import in_slices

EngineName = Literal["eager", "deploy", "compile", "onnxruntime", "openvino"]
log = logging.getLogger(__name__)
TOLERANCE = 1e-4  # of the largest output
ROUNDS = 3
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
    """`start` makes the function from images (N, C, H, W) to a network's logits, ready for the shape of the given ones.

    It copies images first that do not lie in `memory_format`.
    """

    start: Callable[[Network, Tensor], export.Run]
    memory_format: torch.memory_format


def start_all(names: Iterable[str], network: Network, images: Tensor) -> tuple[dict[str, export.Run], dict[str, str]]:
    """The functions that compute `network` in the engines `names`, for batches of the shape of `images`.

    An engine has a reason instead where it cannot run the network here, and where its output for `images` is another:
    where it differs from the network's own by more than 1e-4 of the largest and than rounding makes of it.
    """
    runs: dict[str, export.Run] = {}
    reasons: dict[str, str] = {}
    expected, tolerance = _expected(network, images)
    for name in names:
        given = laid_out(name, images)
        try:
            run = ENGINES[name].start(network, given)
            difference = (run(given) - expected).abs().max().item()
        except ValueError as reason:
            reasons[name] = str(reason)
        except Exception as error:  # each engine has errors of its own
            reasons[name] = f"{name} cannot run this network ({first_line(error)})"
        else:
            if difference <= tolerance:  # NaN is not
                runs[name] = run
            else:
                reasons[name] = f"{name} computes something else: outputs differ by {difference:.1e}"
    return runs, reasons


def _expected(network: Network, images: Tensor) -> tuple[Tensor, float]:
    """What the network makes of `images`, and by how much that may differ.

    In a deep network with random weights rounding alone makes a difference of more than TOLERANCE: what separates the
    network from itself in double precision.
    """
    with torch.no_grad():
        expected, exact = network.net(images), copy.deepcopy(network.net).double()(images.double())
    rounding, largest = (expected - exact).abs().max().item(), expected.abs().max().item()
    return expected, max(TOLERANCE * largest, 4 * rounding)


def fastest(network: Network, images: Tensor, names: Iterable[str]) -> tuple[str, export.Run]:
    """Of the engines `names` the one that computes `network` fastest for `images`, and its function.

    They are timed in turn; the log says what each took. Raises ValueError where none can run the network.
    """
    runs, reasons = start_all(names, network, images)
    if not runs:
        raise ValueError(f"no engine can run this network: {'; '.join(reasons.values())}")
    rounds = [{name: _seconds(run, laid_out(name, images)) for name, run in runs.items()} for _ in range(ROUNDS)]
    seconds = {name: median(found[name] for found in rounds) for name in runs}
    best = min(seconds, key=seconds.__getitem__)
    said = [f"{name} {1e3 * found:.3g} ms" for name, found in seconds.items()] + list(reasons.values())
    log.info(f"{best} is the fastest engine for a batch of {len(images)}: {'; '.join(said)}")
    return best, runs[best]


def _seconds(run: export.Run, images: Tensor) -> float:
    timer = Timer("run(images)", globals={"run": run, "images": images}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=0.1).median


def laid_out(name: str, images: Tensor) -> Tensor:
    """`images` in the memory format that the engine `name` takes without a copy."""
    return images.contiguous(memory_format=ENGINES[name].memory_format)


def _eager(network: Network, images: Tensor) -> export.Run:
    return _without_gradients(network.channels_last)


def _deploy(network: Network, images: Tensor) -> export.Run:
    return _without_gradients(in_slices(network.deployed, images))


def _compile(network: Network, images: Tensor) -> export.Run:
    """torch.compile, which may do more with weights that never change: it folds and reorders them ("freezing")."""
    from torch._dynamo import config as dynamo
    from torch._inductor import config as inductor

    compiled = torch.compile(network.channels_last, dynamic=False)

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.no_grad():  # in another mode it would be compiled again
            return compiled(images.contiguous(memory_format=torch.channels_last))

    # Else it leaves the ninth network of a class as it is, and does not say so.
    limit = dynamo.patch(recompile_limit=256, fail_on_recompile_limit_hit=True)
    with inductor.patch(freezing=True), limit:
        run(images)  # compiles
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
    return lambda images: torch.from_numpy(compiled(images.contiguous().numpy(), share_inputs=True)[0])


def _without_gradients(net: nn.Module) -> export.Run:
    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return net(images.contiguous(memory_format=torch.channels_last))

    return run


ENGINES: dict[str, Engine] = {
    "eager": Engine(_eager, torch.channels_last),
    "deploy": Engine(_deploy, torch.channels_last),
    "compile": Engine(_compile, torch.channels_last),
    "onnxruntime": Engine(_onnxruntime, torch.contiguous_format),
    "openvino": Engine(_openvino, torch.contiguous_format),
}
