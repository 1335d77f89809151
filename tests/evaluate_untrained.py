"""Test an untrained network on trainer.devices processes and print the hits: run by test_evaluation.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from hydra.utils import instantiate
from omegaconf import DictConfig

from conf.launch import launch


def main(config: DictConfig) -> None:
    import pytorch_lightning as pl

    from models.build import Input, build
    from models.training.classifier import Classifier

    pl.seed_everything(1)
    data = instantiate(config.data, _convert_="all")
    model = instantiate(config.model, _convert_="all")
    built = build(**model, input=Input(data.num_classes, data.input_size, data.channels))
    trainer = instantiate(config.trainer, logger=False, enable_progress_bar=False, default_root_dir=config.run_dir)
    parts = {"optimizer": instantiate(config.optimizer), "scheduler": instantiate(config.scheduler)}
    measured = trainer.test(Classifier(built.net.eval(), **parts), data, verbose=False)[0]
    if trainer.is_global_zero:
        print(f"hits {measured['test/top1'] / 100 * 101!r} loss {measured['test/loss']!r}")


launch(main, "train")
