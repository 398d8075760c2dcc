"""MLflow, through its client: its module-wide active run stays untouched."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from polymodal import Tracker
from polymodal_tracking.names import plain_name

_BATCH = 100  # parameters that one call may carry
_LONGEST_NAME, _LONGEST_VALUE = 250, 500  # what every MLflow server takes


class MLflow(Tracker):
    """Logs to an MLflow run: the config as parameters and as config.yaml, numbers as metrics.

    Args:
        experiment: name of the experiment; made if it does not exist.
        tracking_uri: of the server, a folder or a database; by default what MLFLOW_TRACKING_URI
            says, else MLflow's own default.
        name: of the run; by default MLflow makes one up.
        tags: of the run.
    """

    def __init__(
        self,
        *,
        experiment: str = "polymodal",
        tracking_uri: str | None = None,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
    ):
        self.experiment = experiment
        self.tracking_uri = tracking_uri
        self.name = name
        self.tags = dict(tags or {})
        self._client: Any = None
        self._run_id = ""

    def begin(self, config: Mapping[str, Any], directory: str) -> None:
        """Start the MLflow run and send the config."""
        client = MlflowClient(tracking_uri=self.tracking_uri)
        known = client.get_experiment_by_name(self.experiment)
        home = client.create_experiment(self.experiment) if known is None else known.experiment_id
        tags = {"polymodal.directory": directory, **self.tags}
        self._run_id = client.create_run(home, run_name=self.name, tags=tags).info.run_id
        self._client = client
        # What is too long for a parameter stands in the file alone, rather than cut short.
        params = [
            Param(name, value)
            for name, value in _leaves(config)
            if len(name) <= _LONGEST_NAME and len(value) <= _LONGEST_VALUE
        ]
        for start in range(0, len(params), _BATCH):
            client.log_batch(self._run_id, params=params[start : start + _BATCH])
        client.log_dict(self._run_id, dict(config), "config.yaml")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send the numbers."""
        assert self._client is not None, "log comes after begin"
        now = int(time.time() * 1000)
        metrics = [
            Metric(plain_name(name), float(value), now, step) for name, value in values.items()
        ]
        self._client.log_batch(self._run_id, metrics=metrics)

    def end(self) -> None:
        """Finish the MLflow run."""
        if self._client is not None:
            self._client.set_terminated(self._run_id)
            self._client = None


def _leaves(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in config.items():
        name = f"{path}{key}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{name}.")
        else:
            yield plain_name(name), str(value)
