"""MLflow, where a run that goes on is one run."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import MLFlowLogger
from pytorch_lightning.utilities import rank_zero_only

from models.run_directory import write_whole

RUN_ID = "mlflow_run.txt"  # the id of the run at MLflow


class ResumedMLFlowLogger(MLFlowLogger):
    """Lightning's logger, in a run at MLflow that is called like `run_dir` and whose id is kept there.

    So the same command goes on in the same run at MLflow. Raises ValueError where MLflow does not know that run.
    """

    def __init__(
        self,
        run_dir: str,
        *,
        experiment_name: str,
        tracking_uri: str,
        artifact_location: str | None = None,
        tags: dict[str, Any] | None = None,
    ) -> None:
        self.id_file = Path(run_dir) / RUN_ID
        super().__init__(
            experiment_name=experiment_name,
            run_name=Path(run_dir).name,
            tracking_uri=tracking_uri,
            artifact_location=artifact_location,
            tags=tags,
            run_id=self.id_file.read_text().strip() if self.id_file.is_file() else None,
        )

    @property
    def experiment(self) -> Any:
        """MLflow's client; the first time it is asked for, the run there is begun or goes on."""
        if self._initialized or getattr(rank_zero_only, "rank", 0):
            return super().experiment
        goes_on = self._run_id is not None
        try:
            client = super().experiment
        except Exception as error:  # MLflow's own type, which cannot be imported where MLflow is absent
            if not goes_on:
                raise
            raise ValueError(
                f"{self.id_file} names a run that MLflow does not have at {self._tracking_uri} ({error}); set "
                "MLFLOW_TRACKING_URI, or remove that file to begin another one"
            ) from error
        if goes_on:
            client.update_run(self._run_id, status="RUNNING")
        else:
            write_whole(self.id_file, f"{self._run_id}\n")
        return client

    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """MLflow lets none change: of a run that was given more epochs, those of its first end stay."""
        known = self.experiment.get_run(self.run_id).data.params
        given = vars(params) if isinstance(params, Namespace) else params
        super().log_hyperparams({name: value for name, value in given.items() if name not in known})
