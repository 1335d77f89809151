"""benchmark=gates: what gates that skip save in time, beside what they save in MACs.

Each row pairs a dense side with a skipping one. The dense side is the strict baseline, with no gate at all. Of a
network it is the fastest of `engines`, named in `dense_engine`. Of a single layer it is oneDNN's convolution, BatchNorm
folded, ReLU and residual fused, weights in its own layout: other engines change layouts at the ends of a network, for
which a layer alone would pay each time. The skipping side includes its gates. `theoretical` is how many times fewer
MACs it takes, `realised` how many times less time (the median of `repeats` rounds in turn), `ratio` the second over the
first; `spread` the distance between quartiles of the realised speed-up, as a share of it.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from models.inference.engines import EngineName
from scripts.benchmarks.gated_layers import Row, layer_rows
from scripts.benchmarks.gated_networks import require_gates, set_rows, trained_rows
from scripts.benchmarks.side_by_side import keep_freed_memory


def rows(
    *,
    zero_fractions: list[float],
    threads: list[int],
    repeats: int,
    layers: bool,
    gate_kernel: Literal["1x1", "kxk"],
    networks: list[str],
    engines: list[EngineName],
    trained: list[str],
) -> Iterator[Row]:
    """The layer rows, then the networks with gates set to each zero fraction, then the trained ones."""
    keep_freed_memory()
    for name in networks:
        require_gates(name)  # before any of them has taken its minutes
    jobs: list[Callable[[], list[Row]]] = []
    jobs += layer_rows(zero_fractions, gate_kernel, repeats) if layers else []
    jobs += [partial(set_rows, name, zeros, engines, repeats) for name in networks for zeros in zero_fractions]
    jobs += [partial(trained_rows, Path(folder), engines, repeats) for folder in trained]
    for number, job in tqdm(list(product(threads, jobs)), "gates", unit="row", disable=None):
        torch.set_num_threads(number)
        with torch.inference_mode():
            found = job()
        yield from found
