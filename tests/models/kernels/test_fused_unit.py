"""A unit's calls after the first, which are worked out beforehand: they see every change, and compute the same."""

import copy
import math
import operator
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from models.geometry import ConvGeometry
from models.kernels import unit_native
from models.kernels.fused_unit import Depthwise, FusedUnit, Step

pytestmark = pytest.mark.skipif(unit_native.library() is None, reason="no C compiler")


def make(channels: int = 16, outputs: int = 16) -> FusedUnit:
    geometry = ConvGeometry.like(channels, outputs, 3, 1, 1)
    depthwise = Depthwise(torch.randn(channels, 1, 3, 3), torch.randn(channels), math.inf)
    affine = (torch.randn(outputs), torch.randn(outputs))
    steps = (Step(None, operator.add, math.inf), Step(affine, operator.add, math.inf))
    weight, bias = torch.randn(outputs, channels, 1, 1), torch.randn(outputs)
    return FusedUnit(geometry, depthwise, weight, bias, weight.numel(), steps)


def images(size: int = 9, batch: int = 2, channels: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    first, *others = (torch.randn(batch, channels, size, size) for _ in range(3))
    return tuple(image.contiguous(memory_format=torch.channels_last) for image in (first, *others))


def check(unit: FusedUnit, given: tuple[Tensor, ...]) -> None:
    """Twice as it is, beside double precision, which never is prepared for."""
    exact = copy.deepcopy(unit).double()(*(tensor.double() for tensor in given))
    for _ in range(2):
        torch.testing.assert_close(unit(*given).double(), exact, rtol=1e-4, atol=1e-4)


def replace_weight(unit: FusedUnit) -> None:
    unit.weight = nn.Parameter(torch.randn(16, 16, 1, 1), requires_grad=False)


def move_weight(unit: FusedUnit) -> None:
    unit.weight.data = torch.randn(16, 16, 1, 1)


CHANGES: list[Callable[[FusedUnit], object]] = [
    *(
        lambda unit, name=name: getattr(unit, name).mul_(-2)
        for name in ("weight", "depthwise", "bias", "scale", "shift")
    ),
    replace_weight,
    move_weight,
    lambda unit: unit.load_state_dict(make().state_dict()),
]


@torch.no_grad()
@pytest.mark.parametrize("change", CHANGES)
def test_changed_weights_are_seen(change: Callable[[FusedUnit], object]) -> None:
    unit, given = make(), images()
    check(unit, given)
    assert unit._ready is not None
    change(unit)
    check(unit, given)


@torch.no_grad()
def test_other_images_are_seen() -> None:
    unit = make()
    x, inner, outer = images()
    check(unit, (x, inner, outer))
    for given in (images(7), images(9, 1), images(9, 0), images(9, 3), (x, inner, outer[:1]), (x, inner[:, :1], outer)):
        check(unit, given)
        check(unit, (x, inner, outer))
    check(unit, (x.contiguous(), inner.contiguous(), outer))
    check(unit, (x[:, :, ::2], inner[:, :, ::2], outer[:, :, ::2]))
    torch.set_num_threads(2)
    check(unit, (x, inner, outer))
    torch.set_num_threads(1)


@torch.no_grad()
def test_other_types_are_seen() -> None:
    unit, given = make(), images()
    check(unit, given)
    half = unit.bfloat16()(*(tensor.bfloat16() for tensor in given))
    assert half.dtype == torch.bfloat16
    check(unit.float(), given)


def test_a_result_is_a_new_tensor_each_time() -> None:
    unit, given = make(), images()
    with torch.inference_mode():
        outputs = [unit(*given) for _ in range(4)]
    assert len({output.data_ptr() for output in outputs}) == 4
    assert all(torch.equal(output, outputs[0]) for output in outputs)


def test_gradients_are_still_refused() -> None:
    unit, (x, *added) = make(), images()
    with torch.no_grad():
        unit(x, *added)
    with pytest.raises(ValueError, match="has no gradient"):
        unit(x.requires_grad_(), *added)


@torch.no_grad()
def test_copies_are_prepared_by_themselves() -> None:
    unit, given = make(), images()
    wanted = unit(*given)
    for copied in (copy.deepcopy(unit), pickle.loads(pickle.dumps(unit))):
        assert copied._ready is None
        copied.weight.zero_()
        assert torch.equal(unit(*given), wanted)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
def test_a_tracer_sees_the_operator() -> None:
    unit, given = make(), images()
    unit(*given)
    traced = torch.jit.trace(unit, given)
    other = images()
    torch.testing.assert_close(traced(*other), unit(*other))
