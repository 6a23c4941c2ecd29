"""Why an aim is missed, as far as it is known, and what reaching it would take; shown below the aims that were missed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_LSTM_AND_GRU = (
    "Our step runs on one core, so that two trainings fit two cores; the opponents' fastest ways use both. On that core about "
    "half of a step are matrix products, which run at the core's full speed; the rest is element-wise work and some thirty calls "
    "a time step, also for the padding that is shared. Needed: a compiled kernel for a whole time step."
)

# The beginning of an aim's name, and the remark.
REMARKS: tuple[tuple[str, str], ...] = (
    (
        "jena gru_dropout epoch",
        "Every gate has a mask of its own, so a time step makes three products of 128 x 32 x 32 where `gru_baseline` makes one. "
        "The opponents' fastest ways use both cores, ours one, because the other variant trains on the other.",
    ),
    ("imdb", _LSTM_AND_GRU),
    (
        "ingest",
        "Great Expectations takes about a second for 59 expectations and their Data Docs, for 12,000 rows as for 420,551: half "
        "of our time, and more than the whole that the aim allows. The rest, from fetching to publishing, is faster than pandas "
        "without its checks. Needed: another library to judge the data, or less that is judged.",
    ),
    (
        "whole run",
        "This is the sample, where training is short. What is added, by the table of tasks: the first start of Prefect's server "
        "on a new store, a load check in a fresh process and a simple reference for each data set, scoring, registering with "
        "MLflow's import in every process, and processes that start and import Keras again for the second data set. Needed: one "
        "pool of processes for both data sets, and their flows side by side.",
    ),
)


def remarks_on(goals: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return one line for every remark on an aim that was missed, with the aims that it is about."""
    missed = [goal for goal in goals if goal["reached"] is False]
    lines = []
    for beginning, remark in REMARKS:
        about = [f"{goal['what']} against {goal['against']}" for goal in missed if goal["what"].startswith(beginning)]
        if about:
            lines.append(f"**{'; '.join(about)}.** {remark}")
    return tuple(lines)
