"""What trackers are told of a run, read back from their own stores; nothing leaves this machine."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.backend_context import Context

from callbacks.mlflow_logger import ResumedMLFlowLogger
from callbacks.trackers import begin, hyperparameters, report
from tests.conftest import FinishedRun

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not find_spec(package), reason=f"pip install {package}")


@pytest.fixture
def result(finished_run: FinishedRun) -> dict[str, Any]:
    return json.loads((finished_run.directory / "result.json").read_text())


@pytest.fixture
def settings(result: dict[str, Any]) -> dict[str, Any]:
    return hyperparameters(result, result["config"])


def test_tensorboard_has_a_row_of_its_table_of_hyperparameters(finished_run: FinishedRun, result) -> None:
    """As the run itself wrote it, once; without the list of columns, which TensorBoard would take for all runs."""
    folder = finished_run.directory / "tensorboard"
    events = EventAccumulator(str(folder)).Reload()
    written = events.PluginTagToContent("hparams")
    started = metadata.parse_session_start_info_plugin_data(written["_hparams_/session_start_info"])
    assert started.hparams["model"].string_value == "resnet20_lccl_backbone.depth8"
    assert started.hparams["optimizer.lr"].number_value == 0.1
    assert started.hparams["scheduler.milestones"].string_value == "[0.5]"
    assert "_hparams_/experiment" not in written
    (top1,) = events.Scalars("Result/accuracy, test top-1 %")
    assert top1.value == pytest.approx(result["top1"])
    assert sorted(events.Tags()["scalars"])[:4] == [
        "Result/MACs an image",
        "Result/MACs an image, closed gates skipped",
        "Result/accuracy, test top-1 %",
        "Result/accuracy, validation top-1 %",
    ]
    settings = yaml.safe_load((folder / "hparams.yaml").read_text())
    assert settings["data.batch_size"] == 128
    assert not {key for key in settings if "run_dir" in key or "root" in key}


def test_tensorboard_compares_runs_that_have_not_ended_in_what_they_differ(tmp_path: Path, settings) -> None:
    """By TensorBoard's own account: the first run lacks a setting of the second."""
    for name, changed in {"a": {}, "b": {"seed": 7, "model.layer.depth": 3}}.items():
        logger = TensorBoardLogger(str(tmp_path), name, "")
        begin([logger], settings | changed)
        assert yaml.safe_load((tmp_path / name / "hparams.yaml").read_text()) == settings | changed
        logger.experiment.close()
    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    table = Context(TBContext(data_provider=MultiplexerDataProvider(runs, str(tmp_path))))
    told = table.hparams_metadata(RequestContext(), "")
    columns = table.experiment_from_metadata(RequestContext(), "", False, told, None).hparam_infos
    assert [column.name for column in columns][:2] == ["seed", "backbone"]  # those that differ come first
    assert "model.layer.depth" in {column.name for column in columns}


def test_csv_is_told_no_more(tmp_path: Path, result: dict[str, Any], settings: dict[str, Any]) -> None:
    begin([CSVLogger(tmp_path, "csv")], settings)
    report([CSVLogger(tmp_path, "csv")], result, 20)
    assert not list(tmp_path.rglob("metrics.csv"))


def mlflow_logger(tmp_path: Path, run_dir: str = "run") -> ResumedMLFlowLogger:
    (tmp_path / run_dir).mkdir(exist_ok=True)
    uri, folder = f"sqlite:///{tmp_path / 'mlflow.db'}", str(tmp_path / "mlflow")
    return ResumedMLFlowLogger(
        str(tmp_path / run_dir), experiment_name="test", tracking_uri=uri, artifact_location=folder
    )


@needs("mlflow")
def test_a_run_that_goes_on_is_one_run_at_mlflow(tmp_path: Path, result: dict[str, Any], settings) -> None:
    """Interrupted, finished, and given more epochs."""
    first = mlflow_logger(tmp_path)
    first.log_metrics({"train/loss": 2.0}, 1)
    first.finalize("failed")
    again = mlflow_logger(tmp_path)
    begin([again], settings)
    again.log_metrics({"train/loss": 1.0}, 2)
    report([again], result, 20)
    again.finalize("success")
    longer = mlflow_logger(tmp_path)
    begin([longer], settings | {"trainer.max_epochs": 80})
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
def test_wandb_has_configuration_and_summary(tmp_path: Path, result: dict[str, Any], settings: dict[str, Any]) -> None:
    from pytorch_lightning.loggers import WandbLogger

    logger = WandbLogger("run", str(tmp_path), id="run", project="test", mode="offline")
    begin([logger], settings)
    report([logger], result, 20)
    assert logger.experiment.config["optimizer.lr"] == 0.1
    assert logger.experiment.config["layer"] == "lccl"
    assert logger.experiment.summary["final/top1"] == pytest.approx(result["top1"])
    assert logger.experiment.summary["final/macs_effective"] == pytest.approx(result["macs_effective"])
    logger.experiment.finish()
