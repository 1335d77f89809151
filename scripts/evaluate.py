"""Test a trained network: python scripts/evaluate.py run=runs/<directory of a run> format=json."""

import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import json
import logging

from omegaconf import DictConfig

from conf import binding
from conf.launch import launch
from conf.run import plain_config
from conf.schema import EvaluationFormat
from conf.targets import require_own_targets
from data import absent
from models.run_directory import RESULT, file_to_write, read, write_whole

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from torch import nn

    from models.load import LoadedRun

log = logging.getLogger(__name__)
QUIET = {"enable_checkpointing": False, "enable_progress_bar": False}


def main(config: DictConfig) -> None:
    """Load, test, and write what was found as `config.format` says."""
    plain = plain_config(config)
    if config.format == EvaluationFormat.png and config.out is None:
        raise ValueError("format=png needs a file: out=confusion.png")
    # Here, not at the top: a wrong word in the command need not wait for torch.
    from models.load import load_run

    run = load_run(config.run)
    data = data_of(run, plain["data"], config.run)
    options = _as_tested(run, plain["trainer"])
    binding.check({"data": data, "trainer": options})
    absent.require(data)
    out = file_to_write(config.out) if config.out else None
    found = evaluate(run, data, options, Path(config.run), deployed=config.deploy)
    if found:
        _write(found, config.format, out)


def data_of(run: "LoadedRun", given: dict[str, Any], source: str) -> dict[str, Any]:
    """The plain configuration of the data to test `run`, loaded from `source`, on: its own, or what is `given`.

    Another data set is shown to the network as its own was: with its size, channels, mean and std.
    ValueError where neither says what the data are.
    """
    recorded = run.config.get("data")  # a model folder has none
    if "_target_" not in given:
        if recorded is None:
            raise ValueError(f"{source} does not say what it was tested on; choose the data set with data=...")
        require_own_targets(recorded, source)
        return recorded | given
    size = {"num_classes": run.input.num_classes, "input_size": run.input.size, "channels": run.input.channels}
    images = run.preprocessing or (recorded and DictConfig(recorded))
    shown = {"mean": list(images.mean), "std": list(images.std)} if images else {}
    return given | size | shown


def _as_tested(run: "LoadedRun", trainer: dict[str, Any]) -> dict[str, Any]:
    """The options of the trainer; where they leave it open, the precision is that of the run's own test."""
    recorded = run.config["trainer"]["precision"] if "trainer" in run.config else "32-true"
    return trainer | {"precision": trainer["precision"] or recorded}


def evaluate(
    run: "LoadedRun", data_config: dict[str, Any], options: dict[str, Any], source: Path, *, deployed: bool
) -> dict[str, Any] | None:
    """What the network of `run`, loaded from `source`, does on the test images; None on every process but the first."""
    from hydra.utils import instantiate

    from callbacks.confusion import Confusion
    from callbacks.gates import GateSparsity
    from callbacks.trainer import make_trainer
    from models.cost import count
    from models.inference.deploy import deploy
    from models.memory_format import channels_last

    folder = source.parent if source.is_file() else source
    cost = count(run.net, run.input.shape)
    gates, confusion = GateSparsity(cost), Confusion(run.input.num_classes, run.classes if run.preprocessing else None)
    trainer = make_trainer(options | QUIET, folder, [], [gates, confusion])
    data = instantiate(data_config, _convert_="all")
    found = _test(trainer, channels_last(run.net) if run.config.get("channels_last", True) else run.net, data)
    changed = None
    if deployed:
        before = confusion.answers
        found = _test(trainer, deploy(run.net), data)
        changed = confusion.number_of_others(before)
    if not trainer.is_global_zero:
        return None
    result, report = read(folder / RESULT), gates.report
    return {
        "run": str(source),
        "deployed": deployed,
        "processes": trainer.world_size,
        "recorded_top1": result["top1"] if result else None,
        "answers_changed_by_deploy": changed,
        "params": cost.params,
        "macs": cost.macs,
        "macs_effective": report.macs_mean if report else None,
        "macs_effective_std": report.macs_std if report else None,
        **found,
        **_by_class(confusion.matrix.tolist(), run.classes),
    }


def _test(trainer: "pl.Trainer", net: "nn.Module", data: "pl.LightningDataModule") -> dict[str, Any]:
    from models.training.evaluator import Evaluator

    trainer.test(Evaluator(net), data, verbose=False)
    return {name: float(trainer.callback_metrics[f"test/{name}"]) for name in ("top1", "top5", "loss")}


def _by_class(matrix: list[list[int]], names: Sequence[str]) -> dict[str, Any]:
    """Whole numbers of images: of all, of each class, and the confusion matrix."""
    classes = [
        {
            "name": name,
            "images": sum(row),
            "right": row[place],
            "top1": 100 * row[place] / sum(row) if any(row) else None,
        }
        for place, (name, row) in enumerate(zip(names, matrix, strict=True))
    ]
    right, images = (sum(each[key] for each in classes) for key in ("right", "images"))
    return {"images": images, "right": right, "classes": classes, "confusion": matrix}


def _write(found: dict[str, Any], kind: EvaluationFormat, out: Path | None) -> None:
    from scripts.evaluations.text import as_csv, as_table

    if kind == EvaluationFormat.png:
        # Here, not at the top: Matplotlib takes a while.
        from scripts.evaluations.picture import confusion_figure

        assert out is not None
        picture = BytesIO()
        confusion_figure(found).savefig(picture, format="png", dpi=120)
        write_whole(out, picture.getbuffer())
    else:
        as_json = kind == EvaluationFormat.json
        text = (
            json.dumps(found, indent=1)
            if as_json
            else as_csv(found)
            if kind == EvaluationFormat.csv
            else as_table(found)
        )
        if out is None:
            print(text)
            return
        write_whole(out, text + "\n")
    log.info(f"{out}: top-1 {found['top1']:.2f} % of {found['images']:,} test images")


if __name__ == "__main__":
    launch(main, "evaluate")
