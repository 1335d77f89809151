"""cheapconv::subdivided_conv2d and its gradients against a dense convolution in double precision."""

import random
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from models.kernels import subdivided_conv, unit_native
from models.kernels.subdivided_conv import subdivided_conv2d
from models.layers.subdivided import Subdivided
from tests.models.kernels.test_gated_conv import LAYOUTS

needs_compiler = pytest.mark.skipif(unit_native.library() is None, reason="no C compiler")
WINDOW = ([1, 1], [1, 1], [1, 1])
Case = tuple[Any, ...]  # what the operator is called with


def make(
    channels: int = 16,
    outputs: int = 24,
    blocks: int = 4,
    inputs: int = 5,
    kernel: tuple[int, int] = (3, 3),
    size: tuple[int, int] = (7, 9),
    batch: int = 2,
    window: tuple[list[int], list[int], list[int]] = WINDOW,
) -> Case:
    """Random tensors; each block sees `inputs` channels, anywhere and in any order."""
    x = torch.randn(batch, channels, *size)
    seen = torch.stack([torch.randperm(channels)[:inputs] for _ in range(blocks)])
    return x, torch.randn(outputs, inputs, *kernel), seen, *window


def drawn(seed: int) -> Case:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    kernel = draw.choice([(1, 1), (1, 1), (3, 3), (3, 3), (2, 5), (5, 1)])
    stride, dilation = ([draw.choice([1, 1, 1, 2, 3]), draw.choice([1, 1, 1, 2, 3])] for _ in range(2))
    padding = [draw.randint(0, 4), draw.randint(0, 4)] if draw.random() < 0.7 else [0, 0]
    span = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    height, width = (max(1, s + 1 - 2 * p) + draw.randint(0, 14) for s, p in zip(span, padding, strict=True))
    channels, blocks = draw.choice([1, 2, 3, 8, 16, 17, 33, 64]), draw.choice([1, 2, 3, 8])
    outputs = blocks * draw.choice([1, 2, 5, 8, 16, 32])
    case = make(
        channels,
        outputs,
        blocks,
        draw.randint(1, channels),
        kernel,
        (height, width),
        draw.choice([0, 1, 2, 5]),
        (stride, padding, dilation),
    )
    return LAYOUTS[draw.choice(list(LAYOUTS))](case[0]), *case[1:]


def results(case: Case, gradient: Tensor, function: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The output, and the gradients of x and of the weight."""
    x, weight = (tensor.detach().clone().requires_grad_() for tensor in case[:2])
    y = function(x, weight, *case[2:])
    y.backward(gradient.to(y.dtype))
    assert x.grad is not None
    assert weight.grad is not None
    return y.detach(), x.grad, weight.grad


def by_blocks(x: Tensor, weight: Tensor, seen: Tensor, *window: list[int]) -> Tensor:
    """The definition."""
    own = weight.chunk(len(seen))
    return torch.cat([F.conv2d(x[:, i], w, None, *window) for i, w in zip(seen, own, strict=True)], 1)


def check(case: Case, threads: int = 1) -> None:
    exact: Any = (case[0].double(), case[1].double(), *case[2:])
    gradient = torch.randn_like(by_blocks(*exact))
    torch.set_num_threads(threads)
    found = results(case, gradient, subdivided_conv2d)
    torch.set_num_threads(1)
    for own, wanted in zip(found, results(exact, gradient, by_blocks), strict=True):
        assert own.shape == wanted.shape
        scale = wanted.abs().max().item() if wanted.numel() else 0
        torch.testing.assert_close(own.double(), wanted, rtol=0, atol=2e-5 * scale + 1e-6)


@pytest.mark.parametrize("start", range(0, 160, 40))
def test_outputs_and_gradients_are_those_of_the_definition(start: int) -> None:
    for seed in range(start, start + 40):
        check(drawn(seed), threads=1 + seed % 3)


@pytest.mark.parametrize(
    "sizes",
    [
        {"size": (40, 41), "batch": 3, "kernel": (1, 1), "window": ([1, 1], [0, 0], [1, 1])},
        {"channels": 64, "outputs": 128, "inputs": 32, "size": (20, 20)},
        {"size": (3, 900)},
        {"size": (31, 29), "kernel": (1, 1), "window": ([2, 2], [0, 0], [1, 1])},
    ],
    ids=str,
)
def test_many_pixels(sizes: dict[str, Any]) -> None:
    check(make(**sizes), threads=2)


@needs_compiler
def test_gradients_do_not_change_from_one_time_to_the_next() -> None:
    case = make(64, 64, 8, 16, (1, 1), (30, 30), 4, ([1, 1], [0, 0], [1, 1]))
    gradient = torch.randn(4, 64, 30, 30)
    torch.set_num_threads(2)
    first, *others = [results(case, gradient, subdivided_conv2d) for _ in range(5)]
    torch.set_num_threads(1)
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("dtype", [torch.double, torch.bfloat16])
def test_other_types_are_a_dense_convolution(dtype: torch.dtype) -> None:
    x, weight, seen, *window = make()
    x, weight = x.to(dtype), weight.to(dtype)
    wanted = F.conv2d(x, subdivided_conv.dense(weight, seen, 16), None, *window)
    assert torch.equal(subdivided_conv2d(x, weight, seen, *window), wanted)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # opcheck looks at it
@pytest.mark.parametrize("sizes", [{}, {"batch": 0}, {"window": ([2, 2], [1, 1], [1, 1])}], ids=str)
def test_its_schema_shapes_and_gradients_are_true(sizes: dict[str, Any]) -> None:
    x, weight, *others = make(**sizes)
    arguments = (x.contiguous(memory_format=torch.channels_last).requires_grad_(), weight.requires_grad_(), *others)
    torch.library.opcheck(torch.ops.cheapconv.subdivided_conv2d.default, arguments)


def test_flops_are_those_of_the_weights_in_each_direction() -> None:
    """24 x 5 x 9 weights at 2 x 7 x 9 positions, 2 FLOPs each; as many again for each gradient."""
    x, weight, seen, *window = make()
    forward = 2 * 24 * 5 * 9 * 2 * 7 * 9
    for x_needs, weight_needs in ((True, True), (True, False), (False, True)):
        with FlopCounterMode(display=False) as counter:
            y = subdivided_conv2d(x.requires_grad_(x_needs), weight.requires_grad_(weight_needs), seen, *window)
            y.sum().backward()
        assert counter.get_total_flops() == forward * (1 + x_needs + weight_needs)


@needs_compiler
def test_nothing_is_multiplied_that_is_not_connected() -> None:
    """Eight blocks of 32 outputs that see 64 of 256 inputs, 32 behind one another seen by one or the other block."""
    layer = Subdivided(256, 256, 1, grid=(8, 32), window=(2, 32))
    pattern = subdivided_conv._pattern(layer.weight, layer.seen, 256)
    assert len(pattern.forward.weight) == len(pattern.to_x.weight) == 256 * 64


@needs_compiler
def test_layers_of_one_form_share_their_pattern_though_buffers_are_written_to() -> None:
    """As DDP does at every step."""
    first, second = (Subdivided(64, 64, 1) for _ in range(2))
    pattern = subdivided_conv._pattern(first.weight, first.seen, 64)
    second.seen.copy_(second.seen.clone())
    assert subdivided_conv._pattern(second.weight, second.seen, 64) is pattern


def test_autocast_computes_in_half_precision() -> None:
    layer, x = Subdivided(32, 32, 3, padding=1), torch.randn(1, 32, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x), rtol=0.03, atol=0.03)


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x of shape \(1, 8, 5, 5\): must be \(N, 16, H, W\)"):
        Subdivided(16, 16, 1)(torch.randn(1, 8, 5, 5))
    x, *others = make()
    with pytest.raises(RuntimeError, match="out of bounds"):
        subdivided_conv2d(x[:, :8].contiguous(), *others)


def test_exported_programs_do_without_the_operator() -> None:
    """Another program may load them."""
    layer, x = Subdivided(16, 16, 3, padding=1), torch.randn(1, 16, 5, 5)
    program = torch.export.export(layer.eval(), (x,))
    assert not [node for node in program.graph.nodes if "cheapconv" in str(node.target)]
    torch.testing.assert_close(program.module()(x), layer(x), rtol=1e-4, atol=1e-5)
