"""train.py, killed by SIGKILL before step KILL_AT_STEP (an environment variable): run by test_resume.py."""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from conf.launch import launch
from models.classifier import Classifier
from train import main

training_step = Classifier.training_step


def step_or_die(self: Classifier, batch, batch_idx: int):
    if self.global_step == int(os.environ["KILL_AT_STEP"]):
        os.kill(os.getpid(), signal.SIGKILL)
    return training_step(self, batch, batch_idx)


Classifier.training_step = step_or_die
launch(main, "train")
