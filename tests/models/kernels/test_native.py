"""The native kernel: when its packed weights are made again, and whose memory it writes to."""

import os
import shutil
from collections.abc import Callable

import pytest
import torch

from models.kernels import gated_conv, native
from tests.models.kernels.test_gated_conv import check, dense, drawn, make

COMPILER = shutil.which(os.environ.get("CC", "cc"))
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")
PARAMETERS = ["weight", "bias", "gate_weight", "gate_bias", "scale", "shift"]


def test_the_operator_runs_it(monkeypatch) -> None:
    a = make()
    assert torch.equal(gated_conv.gated_conv2d(a), native.gated_conv2d(a))
    monkeypatch.setattr(gated_conv, "portable", None)
    gated_conv.gated_conv2d(a)


# ---- packed weights ----


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_written_in_place_are_seen(name: str) -> None:
    a = make(gate_kernel=(3, 3), gate_padding=(1, 1))
    for write in (lambda t: t.mul_(-2), lambda t: t.copy_(torch.randn_like(t)), lambda t: t[:1].fill_(3)):
        check(native.gated_conv2d, a)
        write(getattr(a, name))
        check(native.gated_conv2d, a)


@pytest.mark.parametrize("name", PARAMETERS)
def test_replaced_parameters_are_seen(name: str) -> None:
    a = make(gate_kernel=(3, 3), gate_padding=(1, 1))
    kept = getattr(a, name).clone()
    for new in (torch.randn_like(kept), None, kept, kept.clone().mul_(2)):
        if new is not None or name in ("bias", "scale", "shift"):
            a = a._replace(**{name: new})
            check(native.gated_conv2d, a)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_made_where_a_freed_one_was_is_seen(name: str) -> None:
    """The allocator hands out an address again; the same memory in a new tensor makes sure of it."""
    a = make(gate_kernel=(3, 3), gate_padding=(1, 1))
    memory = getattr(a, name).numpy().copy()
    for factor in (1, -2, 3):
        memory *= factor
        a = a._replace(**{name: torch.from_numpy(memory)})
        check(native.gated_conv2d, a)


def test_a_row_of_open_pixels_fits_behind_a_list_that_is_nearly_full() -> None:
    a = make(16, 16, size=(12, 900), batch=1)
    a.gate_weight.zero_()[0, 0] = 1
    a.gate_bias.zero_()
    a.x[:, 0] = -1
    for row in (1, 4, 7):
        a.x[:, 0, row, 10 : 10 + 20 * row] = 1  # fewer than fill a block
        a.x[:, 0, row + 1] = 1
    check(native.gated_conv2d, a)


def test_a_weight_in_two_layers_serves_both() -> None:
    a = make()
    b = a._replace(gate_bias=a.gate_bias + 0.5, scale=None, bias=torch.randn(32))
    for arguments in (a, b, a, b):
        check(native.gated_conv2d, arguments)


def test_packed_weights_go_with_their_weight() -> None:
    before = len(native._packed)
    a = make()
    native.gated_conv2d(a)
    assert len(native._packed) == before + 1
    del a
    assert len(native._packed) == before


def test_another_weight_at_the_address_of_a_freed_one_is_seen() -> None:
    """As net.bfloat16().float() leaves it."""
    a = make()
    for _ in range(10):
        check(native.gated_conv2d, a)
        shape = a.weight.shape
        a.weight.data = torch.empty(0)
        a.weight.data = torch.randn(shape)
        check(native.gated_conv2d, a)


@pytest.mark.parametrize("made_in_inference_mode", [True, False])
def test_a_weight_written_to_in_inference_mode_is_seen(made_in_inference_mode: bool) -> None:
    """Tensors made there have no version number."""
    with torch.inference_mode(made_in_inference_mode):
        a = make()
    with torch.inference_mode():
        for factor in (1, -2, 3):
            a.weight.mul_(factor)
            check(native.gated_conv2d, a)


# ---- memory ----


def under(default: torch.dtype, kernel: Callable[..., torch.Tensor] = native.gated_conv2d) -> Callable:
    """`kernel`, called while the process's default type is another one."""

    def run(arguments) -> torch.Tensor:
        torch.set_default_dtype(default)
        try:
            return kernel(arguments)
        finally:
            torch.set_default_dtype(torch.float32)

    return run


def under_every(kernel: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def run(arguments) -> torch.Tensor:
        types = (torch.float32, torch.float64, torch.float16)
        first, *others = [under(default, kernel)(arguments) for default in types]
        assert all(torch.equal(first, other) for other in others)
        return first

    return run


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_the_default_type_changes_nothing(dtype: torch.dtype) -> None:
    """The kernel writes float32: in memory of another type it would write past the end, or leave half of it."""
    for seed in range(20):
        check(under(dtype), drawn(seed)[0])


def test_the_default_device_changes_nothing() -> None:
    a = make()
    with torch.device("meta"):
        out = native.gated_conv2d(a)
    torch.testing.assert_close(out.double(), dense(a), rtol=2e-5, atol=2e-5)
