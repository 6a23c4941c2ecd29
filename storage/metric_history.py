"""Metrics over time in an MLflow run of their own, which goes on from day to day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from storage.mlflow_compat import translate_mlflow_errors

_LAST_STEP = "last_step"
_METRICS_A_CALL = 1000
_DAY_MS = 86_400_000


class MetricHistory:
    """The run of one name in one experiment. Open it with `Registry.metric_history`."""

    def __init__(self, client: Any, *, experiment_id: str, run_name: str) -> None:
        """Find the run, or make it."""
        self._client, self._run_name = client, run_name
        with translate_mlflow_errors(f"cannot open the metrics of {run_name}"):
            run = self._oldest(experiment_id)
            if run is None:
                made = client.create_run(experiment_id, run_name=run_name)
                run = self._oldest(experiment_id) or made  # another host may have made one in the same moment
        self.run_id = str(run.info.run_id)
        self.last_step = int(run.data.tags.get(_LAST_STEP, -1))

    def _oldest(self, experiment_id: str) -> Any | None:
        query = f"attributes.run_name = '{self._run_name}'"
        order = ["attributes.start_time ASC", "attributes.run_id ASC"]
        runs = self._client.search_runs([experiment_id], query, max_results=1, order_by=order)
        return runs[0] if runs else None

    def append(self, history: Mapping[str, Sequence[tuple[int, float]]]) -> int:
        """Log the values of later days than the last one that was logged, and return how many they are.

        Args:
            history: Pairs of day, counted from 1970, and value, by metric.
        """
        from mlflow.entities import Metric

        metrics = [
            Metric(key, float(value), day * _DAY_MS, day)
            for key, values in history.items()
            for day, value in values
            if day > self.last_step
        ]
        with translate_mlflow_errors(f"cannot log the metrics of {self._run_name}"):
            for start in range(0, len(metrics), _METRICS_A_CALL):
                self._client.log_batch(self.run_id, metrics=metrics[start : start + _METRICS_A_CALL])
            if metrics:
                self.last_step = max(metric.step for metric in metrics)
                self._client.set_tag(self.run_id, _LAST_STEP, str(self.last_step))
        return len(metrics)
