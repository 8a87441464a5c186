"""Logs a search to MLflow."""

from __future__ import annotations

from typing import Any

from mergesmith.errors import UserError

from ...run_folder.file_names import BEST, CONFIG
from ...run_folder.trial import Trial
from ..run import Run
from .tracker import Tracker, run_settings, trial_metrics, verdict_metrics, verdict_text


class MlflowCallback(Tracker):
    """A callback of `search` that logs every trial to one MLflow run, and the verdict and best.yaml at its end.

    The step of every metric is the trial's number.
    """

    def __init__(
        self, *, experiment: str = "mergesmith", run_name: str | None = None, tracking_uri: str | None = None
    ) -> None:
        """Set where to log; by default to the server or folder that MLflow is configured for.

        Raises:
            UserError: mlflow is not installed.
        """
        try:
            from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UserError("MlflowCallback needs mlflow: pip install 'mergesmith[mlflow]'") from None
        self._client: Any = MlflowClient(tracking_uri)
        self._experiment, self._run_name, self._id = experiment, run_name, ""

    def __call__(self, run: Run, trial: Trial) -> None:
        """Log a finished trial."""
        begun = self._begun(run)
        for name, value in trial_metrics(trial).items():
            self._client.log_metric(begun, name, float(value), step=trial.number)

    def finish(self, run: Run) -> None:
        """Log the verdict, search.yaml and best.yaml, and end the MLflow run."""
        begun = self._begun(run)
        for name, value in verdict_metrics(run).items():
            if isinstance(value, str):
                self._client.set_tag(begun, name, value)
            else:
                self._client.log_metric(begun, _plain(name), float(value))
        self._client.set_tag(begun, "verdict", verdict_text(run))
        for name in (CONFIG, BEST):
            self._client.log_artifact(begun, str(run.path / name))
        self._client.set_terminated(begun)

    def _begun(self, run: Run) -> str:
        """Return the id of the MLflow run, and begin it if this is the first trial."""
        if not self._id:
            known = self._client.get_experiment_by_name(self._experiment)
            experiment = self._client.create_experiment(self._experiment) if known is None else known.experiment_id
            name = self._run_name or run.path.resolve().name
            self._id = self._client.create_run(experiment, run_name=name).info.run_id
            for key, value in run_settings(run).items():
                self._client.log_param(self._id, key, value)
        return self._id


def _plain(name: str) -> str:
    """Return a metric's name in the form that MLflow accepts: of its characters, and with no folder `.` or `..`."""
    known = "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)
    return "/".join(part for part in known.split("/") if part not in ("", ".", ".."))
