"""train.py, to which a signal comes where the environment says: run by the tests that use tests/resumption.py.

FAULT_AT=6: before the seventh step; `fit`: between the end of fit and the test; `test`: before its first batch counts.
FAULT=SIGTERM: the signal, SIGKILL by default, or NAN: a weight that is no number instead. FAULT_RANK=1: the process
that gets it, all of them by default. STEPS=<file>: there the first process keeps the number of steps it has behind it.
Where the network is compiled, its graphs run with the kernels of eager mode, and a line says that there is one: the
usual backend spends a minute on compiling kernels of its own.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from conf.launch import launch
from models.training.classifier import Classifier
from train import main

PLACE = os.environ["FAULT_AT"]
FAULT = os.environ.get("FAULT", "SIGKILL")
RANK = os.environ.get("RANK", "0")
usual = {name: getattr(Classifier, name) for name in ("training_step", "on_fit_end", "test_step")}


def faulty(name: str, step: int | None = None) -> Callable:
    """The method of this name, before which the signal comes: once, and only at the `step` that is given."""

    def method(self: Classifier, *arguments):
        if step in (None, self.global_step) and os.environ.get("FAULT_RANK", RANK) == RANK:
            setattr(Classifier, name, usual[name])
            if FAULT == "NAN":
                next(self.parameters()).data[0] = torch.nan
            else:
                os.kill(os.getpid(), signal.Signals[FAULT])
        return usual[name](self, *arguments)

    return method


def count(training_step: Callable, file: int) -> Callable:
    """`training_step`, which first writes the number of the step and when this process did its first."""
    first = []

    def method(self: Classifier, *arguments):
        if not first:
            first.append(time.time())
        os.pwrite(file, b"%8d %20.3f" % (self.global_step, first[0]), 0)
        return training_step(self, *arguments)

    return method


def run_eagerly(graph: GraphModule, inputs: list[Tensor]) -> Callable:
    print("compiled a graph")
    return graph.forward


if PLACE == "fit":
    Classifier.on_fit_end = faulty("on_fit_end")
elif PLACE == "test":
    Classifier.test_step = faulty("test_step")
elif PLACE != "never":
    Classifier.training_step = faulty("training_step", int(PLACE))
if "STEPS" in os.environ and RANK == "0":
    Classifier.training_step = count(Classifier.training_step, os.open(os.environ["STEPS"], os.O_WRONLY | os.O_CREAT))
nn.Module.compile = partialmethod(nn.Module.compile, backend=run_eagerly)
launch(main, "train")
