"""Logs a search to Weights & Biases."""

from __future__ import annotations

from typing import Any

from mergesmith.errors import UserError

from ...run_folder.file_names import BEST
from ...run_folder.trial import Trial
from ..run import Run
from .tracker import Tracker, run_settings, trial_metrics, verdict_metrics, verdict_text


class WandbCallback(Tracker):
    """A callback of `search` that logs every trial to one W&B run, and the verdict and best.yaml at its end.

    The x-axis of all charts is the trial's number: trials may finish in another order.
    """

    def __init__(self, **settings: Any) -> None:
        """`settings` are the arguments of `wandb.init`, such as `project`, `name` and `mode="offline"`.

        Raises:
            UserError: wandb is not installed.
        """
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UserError("WandbCallback needs wandb: pip install 'mergesmith[wandb]'") from None
        self._wandb, self._settings, self._logged = wandb, settings, None

    def __call__(self, run: Run, trial: Trial) -> None:
        """Log a finished trial."""
        self._begun(run).log({"trial": trial.number, "method": trial.recipe.merge_method, **trial_metrics(trial)})

    def finish(self, run: Run) -> None:
        """Log the verdict, upload best.yaml, and end the W&B run."""
        logged = self._begun(run)
        logged.summary.update({**verdict_metrics(run), "verdict": verdict_text(run)})
        artifact = self._wandb.Artifact(f"best-{run.path.resolve().name}", type="recipe")
        artifact.add_file(str(run.path / BEST))
        logged.log_artifact(artifact)
        logged.finish()

    def _begun(self, run: Run) -> Any:
        """Return the W&B run, and begin it if this is the first trial."""
        if self._logged is None:
            config = {**run_settings(run), "search_yaml": run.config.model_dump(mode="json")}
            self._logged = self._wandb.init(**{"job_type": "merge search", "config": config, **self._settings})
            self._logged.define_metric("trial")
            self._logged.define_metric("*", step_metric="trial")
            self._logged.define_metric("value", step_metric="trial", summary="max")
        return self._logged
