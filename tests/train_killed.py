"""train.py, killed by SIGKILL where KILL_AT says (an environment variable): run by test_resume.py.

`6`: before the seventh step; `fit`: between the end of fit and the test; `test`: before its first batch counts.
Where the network is compiled, its graphs run with the kernels of eager mode, and a line says that there is one: the
usual backend spends a minute on compiling kernels of its own.
"""

import os
import signal
import sys
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from torch import Tensor, nn
from torch.fx import GraphModule

from conf.launch import launch
from models.training.classifier import Classifier
from train import main

KILL_AT = os.environ["KILL_AT"]
training_step = Classifier.training_step


def die(*_) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def step_or_die(self: Classifier, batch, batch_idx: int):
    if self.global_step == int(KILL_AT):
        die()
    return training_step(self, batch, batch_idx)


def run_eagerly(graph: GraphModule, inputs: list[Tensor]) -> Callable:
    print("compiled a graph")
    return graph.forward


if KILL_AT == "fit":
    Classifier.on_fit_end = die
elif KILL_AT == "test":
    Classifier.test_step = die
elif KILL_AT != "never":
    Classifier.training_step = step_or_die
nn.Module.compile = partialmethod(nn.Module.compile, backend=run_eagerly)
launch(main, "train")
