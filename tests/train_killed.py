"""train.py, killed by SIGKILL where KILL_AT says (an environment variable): run by test_resume.py.

`6`: before the seventh step; `fit`: between the end of fit and the test; `test`: before its first batch counts.
"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

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


if KILL_AT == "fit":
    Classifier.on_fit_end = die
elif KILL_AT == "test":
    Classifier.test_step = die
else:
    Classifier.training_step = step_or_die
launch(main, "train")
