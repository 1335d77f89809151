"""Imports whatever a command of this project imports: loaded by the fork server of tests/processes.py."""

import gc
from importlib import import_module
from pathlib import Path

import matplotlib.figure  # noqa: F401
import sklearn.datasets  # noqa: F401
import tensorboard.summary  # noqa: F401
import timm  # noqa: F401
import torch.utils.tensorboard
import torchvision  # noqa: F401
from hydra import compose, initialize_config_dir

from conf import binding, schema
from conf.run import plain_config

ROOT = Path(__file__).parents[1]
for folder in ("callbacks", "data", "models"):
    for path in (ROOT / folder).rglob("*.py"):
        import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
torch.set_num_threads(1)
schema.register()
with initialize_config_dir(str(ROOT / "conf"), version_base=None):  # what Hydra imports when it composes first
    binding.check(plain_config(compose("train", ["run_dir=here"])))
gc.freeze()  # forked processes share this memory as long as nobody writes to it
