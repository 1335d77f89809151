"""One contract for every implementation of cheapconv::gated_conv2d, against the dense product in double precision."""

import math
import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from models.kernels import gated_conv, native
from models.kernels.arguments import Arguments


def to(a: Arguments, dtype: torch.dtype) -> Arguments:
    return Arguments(*(value.to(dtype) if isinstance(value, Tensor) else value for value in a))


def gate_before_relu(a: Arguments) -> Tensor:
    """The gate's convolution in double precision: pad by far too much below and to the right, then cut."""
    height, width = F.conv2d(a.x[:1], a.weight, None, a.stride, a.padding, a.dilation, a.groups).shape[2:]
    top, left = a.gate_padding
    below, right = (size * step for size, step in zip((height, width), a.stride, strict=True))
    below, right = below + a.gate_weight.shape[2] * a.dilation[0], right + a.gate_weight.shape[3] * a.dilation[1]
    x = F.pad(a.x.double(), (left, right, top, below))
    gate = F.conv2d(x, a.gate_weight.double(), None, a.stride, 0, a.dilation)
    return gate[:, :, :height, :width] + a.gate_bias.double()


def dense(a: Arguments, gate: Tensor | None = None) -> Tensor:
    """The definition, in double precision; `gate` where its convolution is at hand."""
    gate, a = gate_before_relu(a) if gate is None else gate, to(a, torch.double)
    y = F.conv2d(a.x, a.weight, a.bias, a.stride, a.padding, a.dilation, a.groups)
    y = (y.relu() if a.inner_relu else y) * gate.clamp(0, a.gate_ceiling)
    if a.scale is not None:
        y = y * a.scale[:, None, None]
    if a.shift is not None:
        y = y + a.shift[:, None, None]
    if a.residual is not None:
        y = y + a.residual
    return y.relu() if a.relu else y


def closed(a: Arguments, like: Tensor) -> Tensor:
    """What closed positions hold, in the arguments' own precision."""
    y = torch.zeros_like(like)
    if a.shift is not None:
        y = y + a.shift[:, None, None]
    if a.residual is not None:
        y = y + a.residual
    return y.relu() if a.relu else y


def make(
    channels: int = 16,
    filters: int = 32,
    kernel: tuple[int, int] = (3, 3),
    size: tuple[int, int] = (9, 11),
    *,
    batch: int = 2,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    gate_kernel: tuple[int, int] = (1, 1),
    gate_padding: tuple[int, int] = (0, 0),
    gate_ceiling: float = math.inf,
    zeros: float = 0.5,
    extras: str = "bias scale shift residual inner_relu relu",
) -> Arguments:
    """Random tensors; `zeros` is the fraction of positions that the gate closes, and `extras` what is not left out."""
    x = torch.randn(batch, channels, *size).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(filters, channels // groups, *kernel) / math.sqrt(channels // groups * math.prod(kernel))
    gate_weight = torch.randn(1, channels, *gate_kernel) / math.sqrt(channels * math.prod(gate_kernel))
    out = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    optional = {name: torch.randn(filters) for name in ("bias", "scale", "shift")} | {"residual": torch.randn_like(out)}
    options = [optional[name] if name in extras.split() else None for name in optional]
    flags = [name in extras.split() for name in ("inner_relu", "relu")]
    geometry = [list(stride), list(padding), list(dilation), groups, list(gate_padding), gate_ceiling]
    case = Arguments(x, weight, options[0], gate_weight, torch.zeros(1), *options[1:], *geometry, *flags)
    gate = gate_before_relu(case).flatten()
    if not len(gate):
        return case
    threshold = {0: gate.min() - 1, 1: gate.max() + 1}.get(zeros, gate.quantile(zeros))
    return case._replace(gate_bias=-threshold.float().reshape(1))


LAYOUTS = {
    "channels last": lambda x: x,
    "NCHW": lambda x: x.contiguous(),
    "every second column": lambda x: x.repeat_interleave(2, 3)[:, :, :, ::2],
    "every second channel": lambda x: x.repeat_interleave(2, 1)[:, ::2],
    "transposed": lambda x: x.transpose(2, 3).contiguous(memory_format=torch.channels_last).transpose(2, 3),
    "expanded": lambda x: x[:1].expand_as(x) if len(x) else x,
}


def drawn(seed: int) -> tuple[Arguments, int]:
    """Arguments of any kind, and a number of threads."""
    torch.manual_seed(seed)
    draw = random.Random(seed)
    kernel = (draw.choice([1, 2, 3, 3, 5, 7]), draw.choice([1, 2, 3, 3, 4, 5]))
    dilation = (draw.choice([1, 1, 1, 2, 3]), draw.choice([1, 1, 1, 2, 3]))
    padding = (draw.randint(0, 4), draw.randint(0, 4))  # beyond the kernel too: windows wholly outside
    span = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    size = tuple(max(1, s + 1 - 2 * p) + draw.randint(0, 12) for s, p in zip(span, padding, strict=True))
    groups = draw.choice([1, 1, 1, 2, 3, 8])
    extras = ["bias", "scale", "shift", "residual", "inner_relu", "relu"]
    whole_window = draw.random() < 0.5
    margins = [max(1 - n, p if whole_window else p - (s + 1) // 2) for n, p, s in zip(size, padding, span, strict=True)]
    case = make(
        groups * draw.choice([1, 2, 3, 5, 8, 16, 17, 32]),
        groups * draw.choice([1, 2, 7, 8, 15, 16, 17, 31, 33, 48, 64]),
        kernel,
        size,
        batch=draw.choice([0, 1, 1, 2, 3, 7]),
        stride=(draw.randint(1, 3), draw.randint(1, 3)),
        padding=padding,
        dilation=dilation,
        groups=groups,
        gate_kernel=kernel if whole_window else (1, 1),
        gate_padding=(margins[0], margins[1]),
        gate_ceiling=draw.choice([math.inf, 0.5]),
        zeros=draw.choice([0, 1, draw.random(), draw.random(), draw.random()]),
        extras=" ".join(draw.sample(extras, draw.randint(0, len(extras)))),
    )
    changed = {"x": LAYOUTS[draw.choice(list(LAYOUTS))](case.x)}
    if case.residual is not None:
        changed["residual"] = LAYOUTS[draw.choice(list(LAYOUTS))](case.residual)
    return case._replace(**changed), draw.choice([1, 2, 4])


def check(implementation: Any, a: Arguments, tolerance: float = 2e-5, threads: int = 1) -> None:
    """Equal to the dense product, exactly what is promised at closed positions, channels last; nothing written to."""
    before = [value.clone() if isinstance(value, Tensor) else value for value in a]
    torch.set_num_threads(threads)
    out = implementation(a)
    torch.set_num_threads(1)
    gate = gate_before_relu(a)
    expected = dense(a, gate)
    assert out.dtype == a.x.dtype
    assert out.is_contiguous(memory_format=torch.channels_last) or not len(out)
    torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)
    shut = (gate < -1e-3).expand_as(out)  # also in the arguments' own precision
    assert torch.equal(out[shut], closed(a, out)[shut])
    for value, old in zip(a, before, strict=True):
        assert torch.equal(value, old) if isinstance(value, Tensor) else value == old


@pytest.fixture(params=["portable", "native"])
def implementation(request) -> Any:
    if request.param == "portable":
        return gated_conv.portable
    if native.library() is None:
        pytest.skip("no C compiler")
    return native.gated_conv2d


@pytest.mark.parametrize("start", range(0, 160, 20))
def test_is_the_dense_product(implementation, start: int) -> None:
    for seed in range(start, start + 20):
        a, threads = drawn(seed)
        check(implementation, a, threads=threads)


LARGE = {
    "many blocks": {"size": (40, 41), "zeros": 0.3},
    "large weights": {"channels": 64, "filters": 256, "size": (28, 30), "zeros": 0.2},
    "few open": {"size": (60, 61), "zeros": 0.98, "batch": 3},
    "groups": {"channels": 48, "filters": 72, "groups": 3, "gate_kernel": (3, 3), "gate_padding": (1, 1)},
    "depthwise": {"channels": 32, "filters": 32, "groups": 32, "size": (20, 21)},
    "a row longer than a block": {"size": (3, 900), "zeros": 0.4},
    "stem": {"channels": 3, "filters": 64, "kernel": (7, 7), "size": (64, 66), "stride": (2, 2), "padding": (3, 3)},
    "25 border classes": {"kernel": (5, 5), "size": (30, 31), "padding": (2, 2)},
    "169 border classes": {"kernel": (7, 7), "size": (25, 26), "padding": (6, 6), "gate_padding": (3, 3)},
    "49 border classes, dilated": {"kernel": (7, 7), "size": (37, 35), "padding": (6, 6), "dilation": (2, 2)},
    "windows outside": {"size": (12, 13), "padding": (5, 6), "gate_padding": (4, 5), "batch": 4},
    "pointwise": {"kernel": (1, 1), "padding": (0, 0), "size": (30, 31), "channels": 33, "filters": 47},
    "ceiling": {"gate_ceiling": 0.7, "size": (30, 31)},
    "all open": {"zeros": 0, "size": (30, 31)},
    "all closed": {"zeros": 1, "size": (30, 31)},
}


@pytest.mark.parametrize("name", LARGE)
def test_blocks_of_many_pixels_and_every_border(implementation, name: str) -> None:
    every = "bias scale shift residual inner_relu relu"
    for threads, extras in ((1, ""), (2, "shift relu"), (1, "residual"), (2, every)):
        check(implementation, make(**LARGE[name], extras=extras), threads=threads)


@pytest.mark.parametrize("extras", ["", "bias inner_relu", "shift residual relu"])
@pytest.mark.parametrize("channels", [5, 16, 48])
def test_closed_positions_do_not_show_what_is_not_finite(implementation, channels: int, extras: str) -> None:
    """Every window holds a row of NaN or infinity, which a 1 x 1 gate with stride 2 does not look at."""
    for poison in (math.nan, math.inf, -math.inf):
        a = make(channels, 19, size=(24, 25), stride=(2, 2), extras=extras)
        is_open = (gate_before_relu(a) > 0).expand(-1, 19, -1, -1)
        assert 0.3 < is_open.double().mean() < 0.7
        a.x[:, :, 1::2] = poison
        out, expected = implementation(a), dense(a)
        assert expected[~is_open].isnan().all()  # 0 x NaN or infinity
        assert torch.equal(out[~is_open], closed(a, out)[~is_open])
        torch.testing.assert_close(out[is_open].double(), expected[is_open], rtol=1e-5, atol=0, equal_nan=True)


@pytest.mark.parametrize("channels", [5, 16, 48])
def test_a_gate_of_nan_gives_nan(implementation, channels: int) -> None:
    a = make(channels, 19, (1, 1), (20, 21), padding=(0, 0), zeros=1)
    a.x[1, channels // 2, 3, 4] = a.x[0, 0, 19, 20] = math.nan
    found = implementation(a).isnan().all(1).nonzero().tolist()
    assert found == [[0, 19, 20], [1, 3, 4]]
    assert implementation(a._replace(gate_bias=torch.full((1,), math.nan))).isnan().all()


@pytest.mark.parametrize("dtype", [torch.double, torch.bfloat16, torch.half])
def test_other_types_run_as_plain_pytorch(dtype: torch.dtype) -> None:
    a = to(make(), dtype)
    assert not native.can_run(a)
    torch.testing.assert_close(gated_conv.gated_conv2d(a), gated_conv.portable(a), rtol=0, atol=0)
    check(gated_conv.gated_conv2d, a, {torch.double: 1e-12, torch.bfloat16: 0.1, torch.half: 0.02}[dtype])


class Layer(nn.Module):
    def __init__(self, a: Arguments) -> None:
        super().__init__()
        self.rest = a[8:]
        for name, value in zip(Arguments._fields[1:8], a[1:8], strict=True):
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        return gated_conv.gated_conv2d(Arguments(x, *(getattr(self, n) for n in Arguments._fields[1:8]), *self.rest))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_into_one_graph(backend: str) -> None:
    a = make()
    torch.compiler.reset()
    with torch.no_grad():
        out = torch.compile(Layer(a), backend=backend, fullgraph=True)(a.x)
    assert torch.equal(out, gated_conv.gated_conv2d(a))


def test_exports_as_one_operator() -> None:
    a = make()
    program = torch.export.export(Layer(a), (a.x,))
    assert "cheapconv.gated_conv2d" in str(program.graph)
    torch.testing.assert_close(program.module()(a.x), gated_conv.gated_conv2d(a), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
@pytest.mark.parametrize("sizes", [{}, {"filters": 1, "extras": ""}, {"batch": 0}], ids=str)
def test_its_schema_and_shapes_are_true(sizes: dict[str, Any], dtype: torch.dtype) -> None:
    checks = ("test_schema", "test_faketensor", "test_aot_dispatch_static", "test_aot_dispatch_dynamic")
    torch.library.opcheck(torch.ops.cheapconv.gated_conv2d.default, to(make(**sizes), dtype), test_utils=checks)


@pytest.mark.parametrize("seed", range(20))
def test_the_meta_device_knows_the_shape(seed: int) -> None:
    a, _ = drawn(seed)
    out = gated_conv.gated_conv2d(Arguments(*(v.to("meta") if isinstance(v, Tensor) else v for v in a)))
    assert out.shape == dense(a).shape


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_flops_are_those_of_convolution_and_gate(dtype: torch.dtype) -> None:
    """At every position: 2 (C / groups k l T + C k' l'), here of 6 x 9 outputs of 3 images."""
    a = make(16, 24, (3, 5), (11, 11), batch=3, stride=(2, 1), groups=2, gate_kernel=(3, 2), zeros=0.9)
    a = to(a, dtype)
    with FlopCounterMode(display=False) as counter:
        gated_conv.gated_conv2d(a)
    assert counter.get_total_flops() == 3 * 6 * 9 * 2 * (8 * 3 * 5 * 24 + 16 * 3 * 2)


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_there_are_no_gradients(dtype: torch.dtype) -> None:
    a = to(make(), dtype)
    a.weight.requires_grad_()
    with pytest.raises(ValueError, match=r"has no gradient; call it under torch.no_grad\(\)"):
        gated_conv.gated_conv2d(a)
    with torch.no_grad():
        gated_conv.gated_conv2d(a)
