"""Train and test one network: python train.py model=resnet20_sic data=cifar10 (--help lists every choice)."""

import gc
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from callbacks import record
from conf import binding
from conf.launch import launch
from conf.run import Run, attempt, claim, finished, plain_config, settle
from data import absent
from models.run_directory import RESULT

if TYPE_CHECKING:
    from models.build import Built


def main(config: DictConfig) -> None:
    """Run what `config` says, resume it where it stopped, or show the result where it is finished."""
    unnamed = config.copy()
    unnamed.run_dir = "runs" if config.run_dir is None else config.run_dir  # any path, until the run has a name
    binding.check(plain_config(unnamed))
    run = settle(config)
    result = finished(run)
    if result:
        print(f"{run.directory} is finished (code {result['git_sha']}); remove it to train again")
    else:
        absent.require(run.config["data"])
        with attempt(run):
            result = train(run)
        gc.unfreeze()
        gc.collect()  # a job of a sweep must leave nothing behind, least of all its worker processes
    if result:
        print(record.beside_baseline(result, record.neighbours(run.directory, run.names["data"])))
        print(f"result: {run.directory / RESULT}")


def train(run: Run) -> record.Record | None:
    """Build, fit, test and write result.json; None on every process but the first."""
    # Here and below, not at the top: --help and a wrong word in the command need not wait for torch.
    import pytorch_lightning as pl
    from hydra.utils import instantiate

    from models.build import Input, build

    config = instantiate(run.config, _convert_="all", trainer=None)
    pl.seed_everything(run.config["seed"], workers=True, verbose=False)
    data = config["data"]
    built = build(**config["model"], input=Input(data.num_classes, data.input_size, data.channels))
    return fit(run, config, built)


def fit(run: Run, config: dict[str, Any], built: "Built") -> record.Record | None:
    """Train and test `built` with the instantiated parts of `config`, from the last checkpoint if there is one."""
    import pytorch_lightning as pl
    from hydra.utils import instantiate

    from callbacks.all import all_callbacks
    from callbacks.checkpoint import resume_from
    from models.memory_format import channels_last
    from models.training.classifier import Classifier
    from models.training.penalty import gate_penalty
    from models.training.rate import rate_for
    from models.training.sync_norm import SyncBatchNorm

    if config["channels_last"]:
        channels_last(built.net)
    if config["compile"]:
        built.net.compile()
    smoothing, penalty = config["label_smoothing"], gate_penalty(built.net, **config["gate_penalty"])
    identity, chosen = run.names | run.extension, config["callbacks"].values()
    options = run.config["trainer"]
    synced = [SyncBatchNorm()] if options.get("sync_batchnorm") else []
    trainer: pl.Trainer = instantiate(
        options,
        default_root_dir=str(run.directory),
        logger=list(config["logger"].values()),
        plugins=[*synced, *(options.get("plugins") or [])],
        callbacks=all_callbacks(built, run.directory, identity, run.config, chosen),
        _convert_="all",
    )
    config["data"].require_processes(trainer.world_size)
    images = config["data"].batch_size * trainer.accumulate_grad_batches
    optimizer = rate_for(config["optimizer"], images, config["lr_batch_size"])
    classifier = Classifier(built.net, optimizer, config["scheduler"], penalty, label_smoothing=smoothing)
    if not trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
        claim(run)  # here, not before: what cannot be built leaves no directory
    gc.freeze()  # what lives as long as the run need not be searched for garbage again and again
    trainer.fit(classifier, config["data"], ckpt_path=resume_from(run.directory, classifier), weights_only=True)
    trainer.test(classifier, config["data"], verbose=False)
    return finished(run) if trainer.is_global_zero else None


if __name__ == "__main__":
    launch(main, "train")
