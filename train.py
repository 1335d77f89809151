"""Train and test one network: python train.py model=resnet20_sic data=cifar10 (--help lists every choice)."""

import gc
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from callbacks import record
from conf import stop
from conf.command import command
from conf.launch import launch
from conf.run import Run, attempt, begin, finished, settle
from data import absent
from models.run_directory import RESULT
from sweeps.dry import dry_table
from sweeps.job import run_job

if TYPE_CHECKING:
    from models.build import Built
    from models.teacher import Teacher


def main(config: DictConfig) -> None:
    """Run what `config` says, resume it where it stopped, or show the result where it is finished."""
    # Who leaves out the checkpoints has nothing to wait for.
    with stop.noting(config.stop_signals if "checkpoint" in config.callbacks else []):
        run = settle(config)
        if config.dry:
            print(dry_table({run.names["model"]: run}))
            return
        result = finished(run)
        if result:
            print(f"{run.directory} is finished (code {result['git_sha']}); remove it to train again")
        else:
            absent.require(run.config["data"])
            with attempt(run):
                result = finished(run) or train(run)  # another process may have finished it just now
        if result:
            print(record.beside_baseline(result, record.neighbours(run.directory, run.names["data"])))
            print(f"result: {run.directory / RESULT}")


def train(run: Run) -> record.Record | None:
    """Build, fit, test and write result.json; None on every process but the first."""
    # Here and below, not at the top: --help and a wrong word in the command need not wait for torch.
    import pytorch_lightning as pl
    from hydra.utils import instantiate

    from models.build import Input, build
    from models.teacher import load_teacher

    config = instantiate(run.config, _convert_="all", trainer=None)
    pl.seed_everything(run.config["seed"], workers=True, verbose=False)
    data = config["data"]
    built = build(**config["model"], input=Input(data.num_classes, data.input_size, data.channels))
    return fit(run.with_model(built.measured), config, built, load_teacher(run.config["teacher"], run.config["data"]))


def fit(run: Run, config: dict[str, Any], built: "Built", teacher: "Teacher | None" = None) -> record.Record | None:
    """Train and test `built` with the instantiated parts of `config`, from the last checkpoint if there is one."""
    from callbacks.all import all_callbacks
    from callbacks.checkpoint import resume_from
    from callbacks.explained import explained
    from callbacks.trainer import make_trainer
    from models.memory_format import channels_last
    from models.training.classifier import Classifier
    from models.training.distillation import distillation
    from models.training.penalty import gate_penalty
    from models.training.rate import rate_for

    data, lessons = config["data"], None
    if teacher:
        shape = (data.channels, data.input_size, data.input_size)
        lessons = distillation(built.net, teacher.net, shape, **config["distillation"])
    for net in (built.net, teacher.net) if teacher else (built.net,):
        if config["channels_last"]:
            channels_last(net)
        if config["compile"]:
            net.compile()
    smoothing, penalty = config["label_smoothing"], gate_penalty(built.net, **config["gate_penalty"])
    identity, chosen = run.names | run.extension | {"command": command()}, config["callbacks"].values()
    callbacks = all_callbacks(built, run.directory, identity, run.config, chosen, teacher)
    trainer = make_trainer(run.config["trainer"], run.directory, list(config["logger"].values()), callbacks)
    data.require_processes(trainer.world_size)
    images = data.batch_size * trainer.accumulate_grad_batches
    optimizer = rate_for(config["optimizer"], images, config["lr_batch_size"])
    classifier = Classifier(built.net, optimizer, config["scheduler"], penalty, lessons, label_smoothing=smoothing)
    if not trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
        begin(run)  # here, not before: what cannot be built leaves no trace
    gc.freeze()  # what lives as long as the run need not be searched for garbage again and again
    checkpoint = resume_from(run.directory, classifier, trainer.is_global_zero)
    with explained(run.config, trainer.world_size):
        trainer.fit(classifier, data, ckpt_path=checkpoint, weights_only=True)
        trainer.test(classifier, data, verbose=False)
    return finished(run) if trainer.is_global_zero else None


if __name__ == "__main__":
    launch(main, "train", in_a_sweep=run_job)
