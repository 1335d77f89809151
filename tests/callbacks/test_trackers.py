"""What trackers are told at the end of a run, read back from their own stores; nothing leaves this machine."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from pytorch_lightning.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from callbacks.mlflow_logger import ResumedMLFlowLogger
from callbacks.trackers import report
from tests.conftest import FinishedRun

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not find_spec(package), reason=f"pip install {package}")


@pytest.fixture
def result(finished_run: FinishedRun) -> dict[str, Any]:
    return json.loads((finished_run.directory / "result.json").read_text())


def test_tensorboard_has_a_row_of_its_table_of_hyperparameters(finished_run: FinishedRun, result) -> None:
    """As the run itself wrote it, once."""
    folder = finished_run.directory / "tensorboard"
    events = EventAccumulator(str(folder)).Reload()
    written = events.PluginTagToContent("hparams")
    started = metadata.parse_session_start_info_plugin_data(written["_hparams_/session_start_info"])
    assert started.hparams["model"].string_value == "resnet20_lccl_backbone.depth8"
    assert started.hparams["optimizer.lr"].number_value == 0.1
    assert started.hparams["scheduler.milestones"].string_value == "[0.5]"
    table = metadata.parse_experiment_plugin_data(written["_hparams_/experiment"])
    assert {"final/top1", "final/macs", "final/macs_effective"} <= {info.name.tag for info in table.metric_infos}
    (top1,) = events.Scalars("final/top1")
    assert top1.value == pytest.approx(result["top1"])
    settings = yaml.safe_load((folder / "hparams.yaml").read_text())
    assert settings["data.batch_size"] == 128
    assert not {key for key in settings if "run_dir" in key or "root" in key}


def test_csv_is_told_no_more(tmp_path: Path, result: dict[str, Any]) -> None:
    report([CSVLogger(tmp_path, "csv")], result, 20)
    assert not list(tmp_path.rglob("metrics.csv"))


def mlflow_logger(tmp_path: Path, run_dir: str = "run") -> ResumedMLFlowLogger:
    (tmp_path / run_dir).mkdir(exist_ok=True)
    uri, folder = f"sqlite:///{tmp_path / 'mlflow.db'}", str(tmp_path / "mlflow")
    return ResumedMLFlowLogger(
        str(tmp_path / run_dir), experiment_name="test", tracking_uri=uri, artifact_location=folder
    )


@needs("mlflow")
def test_a_run_that_goes_on_is_one_run_at_mlflow(tmp_path: Path, result: dict[str, Any]) -> None:
    """Interrupted, finished, and given more epochs."""
    first = mlflow_logger(tmp_path)
    first.log_metrics({"train/loss": 2.0}, 1)
    first.finalize("failed")
    again = mlflow_logger(tmp_path)
    again.log_metrics({"train/loss": 1.0}, 2)
    report([again], result, 20)
    again.finalize("success")
    longer = mlflow_logger(tmp_path)
    result["config"]["trainer"]["max_epochs"] = 80
    report([longer], result, 40)
    client = longer.experiment
    (run,) = client.search_runs([client.get_experiment_by_name("test").experiment_id])
    assert run.info.run_name == "run"
    assert run.data.params["optimizer.lr"] == "0.1"
    assert run.data.params["trainer.max_epochs"] == "2"
    assert run.data.metrics["final/top1"] == pytest.approx(result["top1"])
    assert run.data.metrics["final/macs"] == result["macs"]
    assert [metric.value for metric in client.get_metric_history(run.info.run_id, "train/loss")] == [2.0, 1.0]
    (tmp_path / "run" / "mlflow_run.txt").write_text("0123456789abcdef0123456789abcdef")
    with pytest.raises(ValueError, match=r"mlflow_run.txt names a run that MLflow does not have at sqlite.*; set MLFL"):
        mlflow_logger(tmp_path).log_metrics({"train/loss": 1.0}, 3)


@needs("wandb")
def test_wandb_has_configuration_and_summary(tmp_path: Path, result: dict[str, Any]) -> None:
    from pytorch_lightning.loggers import WandbLogger

    logger = WandbLogger("run", str(tmp_path), id="run", project="test", mode="offline")
    report([logger], result, 20)
    assert logger.experiment.config["optimizer.lr"] == 0.1
    assert logger.experiment.config["layer"] == "lccl"
    assert logger.experiment.summary["final/top1"] == pytest.approx(result["top1"])
    assert logger.experiment.summary["final/macs_effective"] == pytest.approx(result["macs_effective"])
    logger.experiment.finish()
