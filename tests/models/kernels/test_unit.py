"""One contract for every implementation of cheapconv::unit, against one step after the other in double precision."""

import math
import random
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from models.kernels import unit, unit_native
from models.kernels.arguments import UnitArguments
from models.layers.subdivided import Subdivided
from tests.models.kernels.test_gated_conv import LAYOUTS

EVERYTHING = "depthwise depthwise_bias bias inner_residual scale residual inner_relu relu"
needs_compiler = pytest.mark.skipif(unit_native.library() is None, reason="no C compiler")
IMPLEMENTATIONS = [
    pytest.param(unit_native.unit, id="native", marks=needs_compiler),
    pytest.param(unit.portable, id="portable"),
    pytest.param(unit.unit, id="operator"),
]


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
    multiplier: int = 1,
    kept: float = 0.3,
    extras: str = EVERYTHING,
    ceiling: float | None = 0.5,
) -> UnitArguments:
    """Random tensors; a weight is left with the probability `kept`, and `extras` is what is not left out."""
    x = torch.randn(batch, channels, *size).contiguous(memory_format=torch.channels_last)
    given = extras.split()
    maps = channels * multiplier if "depthwise" in given else channels
    depthwise = torch.randn(maps, 1, *kernel)
    weight = torch.randn(filters, maps, *((1, 1) if "depthwise" in given else kernel))
    weight = weight * (torch.rand(filters, maps, 1, 1) < kept)
    geometry = list(stride), list(padding), list(dilation)
    shape = F.conv2d(x, torch.empty(1, channels, *kernel), None, *geometry).shape
    optional = {"depthwise": depthwise, "depthwise_bias": torch.randn(maps), "weight": weight}
    optional |= {name: torch.randn(filters) for name in ("bias", "scale", "shift")}
    optional |= {name: torch.randn(batch, filters, *shape[2:]) for name in ("inner_residual", "residual")}
    wanted = {"weight", *given} | ({"shift"} if "scale" in given else set())
    wanted -= set() if "depthwise" in given else {"depthwise_bias"}
    return UnitArguments(
        x,
        *(optional[name] if name in wanted else None for name in UnitArguments._fields[1:9]),
        *geometry,
        ceiling,
        int(weight.count_nonzero()),
        "inner_relu" in given,
        "relu" in given,
    )


def drawn(seed: int) -> tuple[UnitArguments, int]:
    """Arguments of any kind, and a number of threads."""
    torch.manual_seed(seed)
    draw = random.Random(seed)
    kernel = (draw.choice([1, 2, 3, 3, 3, 5, 7]), draw.choice([1, 2, 3, 3, 3, 4, 5]))
    stride, dilation = ((draw.choice([1, 1, 2, 3]), draw.choice([1, 1, 2, 3])) for _ in range(2))
    padding = (draw.randint(0, 4), draw.randint(0, 4))  # beyond the kernel too: windows wholly outside
    span = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    height, width = (max(1, s + 1 - 2 * p) + draw.randint(0, 14) for s, p in zip(span, padding, strict=True))
    names = EVERYTHING.split()
    case = make(
        draw.choice([1, 2, 3, 8, 16, 17, 33, 64]),
        draw.choice([1, 3, 8, 15, 16, 17, 24, 31, 33, 48, 80]),
        kernel,
        (height, width),
        batch=draw.choice([0, 1, 1, 2, 3, 7]),
        stride=stride,
        padding=padding,
        dilation=dilation,
        multiplier=draw.choice([1, 1, 1, 2, 3]),
        kept=draw.choice([0, 0.05, 0.3, 1]),
        extras=" ".join(draw.sample(names, draw.randint(0, len(names)))),
        ceiling=draw.choice([None, float("inf"), 0.5]),
    )
    return case._replace(x=LAYOUTS[draw.choice(list(LAYOUTS))](case.x)), draw.choice([1, 2, 4])


def stepwise(a: UnitArguments) -> Tensor:
    """The definition, in double precision."""
    a = UnitArguments(*(value.double() if isinstance(value, Tensor) else value for value in a))
    geometry, z = (a.stride, a.padding, a.dilation), a.x
    if a.depthwise is not None:
        z = F.conv2d(a.x, a.depthwise, a.depthwise_bias, *geometry, groups=a.x.shape[1])
        z = z if a.depthwise_ceiling is None else z.clamp(0, a.depthwise_ceiling)
    y = F.conv2d(z, a.weight, a.bias, *(geometry if a.depthwise is None else ()))
    y = y + (0 if a.inner_residual is None else a.inner_residual)
    y = y.relu() if a.inner_relu else y
    if a.scale is not None and a.shift is not None:
        y = torch.addcmul(a.shift.view(-1, 1, 1), y, a.scale.view(-1, 1, 1))
    y = y + (0 if a.residual is None else a.residual)
    return y.relu() if a.relu else y


def check(implementation: Any, a: UnitArguments, threads: int = 1) -> None:
    before = [value.clone() if isinstance(value, Tensor) else value for value in a]
    torch.set_num_threads(threads)
    out = implementation(a)
    torch.set_num_threads(1)
    wanted = stepwise(a)
    assert out.dtype == a.x.dtype
    assert out.shape == wanted.shape == a.output_shape
    scale = wanted.abs().max().item() if wanted.numel() else 0
    torch.testing.assert_close(out.double(), wanted, rtol=0, atol=2e-5 * scale + 1e-6)
    for value, old in zip(a, before, strict=True):
        assert torch.equal(value, old) if isinstance(value, Tensor) else value == old


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("start", range(0, 120, 40))
def test_is_one_step_after_the_other(implementation, start: int) -> None:
    for seed in range(start, start + 40):
        check(implementation, *drawn(seed))


LARGE = {
    "many blocks": {"size": (40, 41), "batch": 3},
    "a block for each channel of a group": {"channels": 64, "filters": 64, "size": (14, 14), "kept": 0.05},
    "more outputs than vectors": {"channels": 40, "filters": 75, "size": (13, 12), "kept": 1},
    "strides": {"channels": 32, "filters": 48, "size": (31, 29), "stride": (2, 2)},
    "a row longer than a block": {"channels": 8, "size": (3, 900)},
    "no connection": {"kept": 0},
    "windows outside": {"size": (12, 13), "padding": (5, 6), "batch": 4},
    "several filters an input": {"channels": 24, "multiplier": 3, "size": (15, 17), "kept": 0.5},
}


@needs_compiler
@pytest.mark.parametrize("name", LARGE)
def test_blocks_and_borders(name: str) -> None:
    for threads, extras in (
        (1, ""),
        (2, "depthwise"),
        (1, "depthwise depthwise_bias bias inner_relu"),
        (2, EVERYTHING),
    ):
        check(unit_native.unit, make(**LARGE[name], extras=extras), threads=threads)


@needs_compiler
def test_nothing_is_multiplied_that_is_not_connected() -> None:
    """Eight blocks of 32 outputs that see 64 of 256 inputs each: a quarter of the weights is packed, and no more."""
    weight = Subdivided(256, 256, 1, grid=(8, 32), window=(2, 32)).dense_weight()
    assert unit_native.pack(weight, 1).weight.numel() == 256 * 64


@needs_compiler
@pytest.mark.parametrize("extras", ["", "depthwise", EVERYTHING])
def test_nan_and_infinity_pass(extras: str) -> None:
    for poison in (math.nan, math.inf, -math.inf):
        a = make(33, 40, kept=1, extras=extras)
        a.x[1, 7, 4, 5] = poison
        out, wanted = unit_native.unit(a).double(), stepwise(a)
        assert torch.equal(out.isnan(), wanted.isnan())
        torch.testing.assert_close(out, wanted, rtol=1e-4, atol=1e-4, equal_nan=True)


@needs_compiler
@pytest.mark.parametrize("name", ["weight", "depthwise", "depthwise_bias", "bias", "scale", "shift"])
def test_parameters_written_in_place_are_seen(name: str) -> None:
    a = make()
    for write in (lambda t: t.mul_(-2), lambda t: t.copy_(torch.randn_like(t)), lambda t: t.zero_()):
        check(unit_native.unit, a)
        write(getattr(a, name))
        check(unit_native.unit, a)


@pytest.mark.parametrize("dtype", [torch.double, torch.bfloat16])
def test_other_types_run_as_plain_pytorch(dtype: torch.dtype) -> None:
    a = UnitArguments(*(value.to(dtype) if isinstance(value, Tensor) else value for value in make()))
    assert not unit_native.can_run(a)
    assert torch.equal(unit.unit(a), unit.portable(a))


def test_the_default_type_changes_nothing() -> None:
    a = make()
    wanted = unit.unit(a)
    torch.set_default_dtype(torch.float16)
    try:
        assert torch.equal(unit.unit(a._replace()), wanted)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("sizes", [{}, {"extras": ""}, {"batch": 0}], ids=str)
def test_its_schema_and_shapes_are_true(sizes: dict[str, Any]) -> None:
    checks = ("test_schema", "test_faketensor", "test_aot_dispatch_static", "test_aot_dispatch_dynamic")
    torch.library.opcheck(torch.ops.cheapconv.unit.default, make(**sizes), test_utils=checks)


def test_flops_are_those_of_connections_and_depthwise_weights() -> None:
    """At each of 2 x 9 x 11 outputs: 16 x 9 MACs of the depthwise convolution and one for each weight that is there."""
    a = make(kept=0.5)
    with FlopCounterMode(display=False) as counter:
        unit.unit(a)
    assert counter.get_total_flops() == 2 * 9 * 11 * 2 * (16 * 9 + int((a.weight != 0).sum()))


def test_there_are_no_gradients() -> None:
    a = make()
    a.weight.requires_grad_()
    with pytest.raises(ValueError, match=r"has no gradient; call it under torch.no_grad\(\)"):
        unit.unit(a)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": torch.zeros(32, 15, 1, 1)}, r"weight of shape \(32, 15, 1, 1\): must be \(32, 16, 1, 1\)"),
        ({"bias": torch.zeros(3)}, r"bias of shape \(3,\): must be \(32,\)"),
        ({"residual": torch.zeros(2, 32, 9, 10)}, r"residual of shape .*: must be \(2, 32, 9, 11\)"),
        ({"shift": None}, "scale and shift go together"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unit.unit(make()._replace(**change))
