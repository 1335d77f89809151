"""The CUDA kernels without a GPU: the operator's contract in Triton's interpreter, and the compiler's consent.

Triton reads TRITON_INTERPRET when it is imported, so the contract is checked in a child process, which runs this file.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.kernels import test_gated_conv as contract
from tests.models.kernels.test_gated_conv import check, drawn, make, to

pytest.importorskip("triton", reason="Triton is for Linux")
ROOT = Path(__file__).parents[3]
CASES = {
    "several blocks of positions and of channels": {"channels": 40, "filters": 72, "size": (13, 14), "zeros": 0.3},
    "groups": {"channels": 24, "filters": 40, "groups": 2, "stride": (2, 1), "extras": "shift relu"},
    "depthwise": {"channels": 3, "filters": 3, "groups": 3, "size": (7, 8), "extras": "residual"},
    "5 x 5, dilated": {"channels": 5, "kernel": (5, 5), "padding": (4, 4), "dilation": (2, 3), "size": (10, 13)},
    "4 x 2": {"channels": 19, "filters": 17, "kernel": (4, 2), "padding": (2, 0), "extras": "bias inner_relu"},
    "pointwise": {"kernel": (1, 1), "padding": (0, 0), "channels": 33, "extras": ""},
    "gate of whole windows": {"channels": 70, "filters": 8, "gate_kernel": (3, 3), "gate_padding": (1, 1)},
    "gate cut": {"gate_padding": (-1, -2), "stride": (2, 3), "padding": (0, 0), "extras": "scale"},
    "all open": {"zeros": 0, "extras": "relu"},
    "all closed": {"zeros": 1},
    "ceiling": {"gate_ceiling": 0.7},
    "one position": {"size": (1, 1), "batch": 1, "zeros": 0},
    "no image": {"batch": 0},
}


@pytest.mark.slow
def test_keeps_the_contract_in_the_interpreter() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines()[-1] == f"{len(CASES)} cases agree"


def in_the_interpreter() -> None:
    from models.kernels import triton_gated_conv as kernels

    torch.manual_seed(0)
    for name, case in CASES.items():
        print(name, flush=True)
        a = make(**case)
        assert kernels.can_run(a)
        check(kernels.gated_conv2d, a)
    for seed in range(6):
        print("seed", seed, flush=True)
        check(kernels.gated_conv2d, drawn(seed)[0])
    print("half", flush=True)  # bfloat16 the interpreter multiplies as integers
    check(kernels.gated_conv2d, to(make(24, 20), torch.half), 2e-3)
    for extras in ("bias inner_relu", "shift residual relu"):
        print("not finite:", extras, flush=True)
        contract.test_closed_positions_do_not_show_what_is_not_finite(kernels.gated_conv2d, 5, extras)
    contract.test_a_gate_of_nan_gives_nan(kernels.gated_conv2d, 16)
    print(f"{len(CASES)} cases agree")


def test_leaves_other_types_and_large_tensors_to_plain_pytorch() -> None:
    from models.kernels import triton_gated_conv as kernels

    a = make()
    assert kernels.can_run(a)
    assert kernels.can_run(to(a, torch.half))
    assert not kernels.can_run(to(a, torch.double))
    assert not kernels.can_run(a._replace(scale=a.scale.double()))
    huge = [a._replace(x=torch.empty(2**14, 16, 2**6, side, device="meta")) for side in (2**6, 2**7, 2**8)]
    assert [kernels.can_run(each) for each in huge] == [False] * 3  # 2^31 outputs, then inputs too
    assert kernels.can_run(huge[0]._replace(x=huge[0].x[: 2**14 - 1]))


LAUNCHES = [
    {"dtype": "fp32", "capability": 80, "absent": (), "single": ()},
    {"dtype": "fp16", "capability": 90, "absent": ("bias", "scale", "shift", "residual"), "single": ("ho", "wo")},
    {"dtype": "bf16", "capability": 80, "absent": ("residual",), "single": ("h", "w", "ho", "wo", "positions")},
]


@pytest.mark.slow
@pytest.mark.parametrize("launch", LAUNCHES, ids=str)
def test_compiles_for_cuda(launch: dict[str, Any], tmp_path: Path, monkeypatch) -> None:
    """Arguments that are 1 or None become constants, as when Triton launches a kernel."""
    from models.kernels import triton_gated_conv as kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    geometry = dict.fromkeys(("kh", "kw"), 3) | dict.fromkeys(("sh", "sw", "dh", "dw", "ph", "pw"), 1)
    constants = {"c": 48, "t": 40, **geometry, "with_relu": True, "block": 64, "depth": 32, "wide": 64}
    constants |= dict.fromkeys(launch["absent"]) | dict.fromkeys(launch["single"], 1)
    gate = compiled(kernels._gate, constants, launch)
    convolve = compiled(kernels._convolve, {**constants, "groups": 2, "inner_relu": True}, launch)
    assert "atom.global" in gate
    tensor_cores = "mma" in convolve
    assert tensor_cores == (launch["dtype"] != "fp32")  # float32 products are not rounded to TF32


def compiled(kernel: Any, constants: dict[str, Any], launch: dict[str, Any]) -> str:
    """Assembly of a kernel with these of its arguments constant."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = dict.fromkeys(("positions", "h", "w", "ho", "wo"), "i32")
    types |= {"gates": "*fp32", "listed": "*i32", "count": "*i32", "ceiling": "fp32"}
    names = kernel.arg_names
    constants = {name: value for name, value in constants.items() if name in names}
    signature = {name: "constexpr" if name in constants else types.get(name, f"*{launch['dtype']}") for name in names}
    pointers = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name].startswith("*")}
    values = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, signature, values, pointers)
    return triton.compile(source, target=GPUTarget("cuda", launch["capability"], 32)).asm["ptx"]


if __name__ == "__main__":
    in_the_interpreter()
