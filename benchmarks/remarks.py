"""Why an aim is missed, as far as it is known, and what reaching it would take; shown below the aims that were missed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_IMDB = (
    "A training alone runs both halves of its batch beside each other. What stays on one core is the padding that reviews share, "
    "the gradient of the embedding, the optimizer, and some hundred small operations that TensorFlow starts one by one. Within a "
    "half about half of the time are matrix products at the core's full speed; the rest is element-wise work and some ten to "
    "thirty calls a time step. Needed: a compiled kernel for a whole time step."
)

# The beginning of an aim's name, and the remark.
REMARKS: tuple[tuple[str, str], ...] = (
    (
        "jena gru_dropout epoch",
        "Every gate has a mask of its own, so a time step multiplies the state three times where `gru_baseline` does so once, "
        "and the masks are applied again for the gradient. Needed: a compiled kernel for a whole time step.",
    ),
    ("imdb ", _IMDB),
    (
        "jena: exponent",
        "A fixed second of Great Expectations had flattened the curve; without it 4,205,510 rows take half of the time of "
        "before (8.2 s, where it was 16.9 s), and what grows shows. Parsing grows more than the rows do; why was not looked "
        "into. Needed: a profile of parsing at this size.",
    ),
    (
        "imdb: exponent",
        "As for jena: the fixed costs that flattened the curve are gone. Parsing of 200,000 reviews takes 3.7 of 5.8 s; it was "
        "not profiled at this size.",
    ),
    (
        "ingest",
        "Most of the time is parsing: inflating the zip, and reading fifteen columns of text as numbers and stamps. Then come "
        "the compression of the published files, half of it the search for a dictionary, which halves them, and a digest of each "
        "file. The suite takes some hundredths of a second, its Data Docs three tenths, for 12,000 rows as for 420,551. pandas "
        "keeps no digest and repairs nothing. Needed: raw files that are not compressed, or published ones that are not.",
    ),
    (
        "whole run",
        "This is the sample, where training is short. What is added, by the table of tasks: some 10 s until the first task, in "
        "which both cores start Prefect's server and import Prefect, Great Expectations, MLflow and Keras (the bare loop imports "
        "Keras alone, but twice); a linear baseline, scoring and registering for each data set, which share the two cores with "
        "the trainings; a load check and a report. Needed: imports of Great Expectations and Prefect that take less.",
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
