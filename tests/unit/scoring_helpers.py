"""How a temperature forecast and a classifier of two classes are scored, for tests that need one of each."""

from __future__ import annotations

from tasks.scoring import ClassificationScoring, ForecastScoring

FORECAST = ForecastScoring(unit="°C", unit_suffix="degc", row_seconds=600, naive_label="temperature 24 h before the target")
CLASSES = ClassificationScoring()
