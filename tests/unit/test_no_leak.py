"""What is learnt follows from the train rows alone, and the epoch that is kept from them and the validation rows.

That statistics and filled holes do not leak is tested beside the data sets: `test_jena.py`, and the contract
`statistics_are_of_train_rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.models import PROBLEMS, build_learner
from tasks.models.spec import Budget
from tasks.models.training_loop import Fitted, fit

SERIES = tuple(name for name, problem in PROBLEMS.items() if problem.is_series)


def changed(table: pa.Table) -> pa.Table:
    """Return a table with other readings in every row, and the same stamps and runs."""
    columns = {name: table[name] for name in table.column_names}
    columns |= {
        name: pa.array(2 - values.to_numpy(), type=pa.float32())
        for name, values in columns.items()
        if pa.types.is_floating(values.type)
    }
    return pa.table(columns, schema=table.schema)


def learn(dataset: str, splits: Mapping[str, pa.Table], normalisation: Mapping[str, Any], *, epochs: int) -> tuple[Fitted, Any]:
    from tasks.models.device import prepare_device

    problem = PROBLEMS[dataset]
    variant = problem.variants[problem.default_variants[0]]
    device = prepare_device(1, require_gpu=False)
    learner = build_learner(splits, normalisation=normalisation, problem=problem, variant=variant, device=device, seed=0)
    fitted = fit(learner, budget=Budget(epochs, 3, epochs), seed=0, is_better=problem.is_better)
    return fitted, learner.network.get_weights()


@pytest.mark.parametrize("dataset", SERIES)
def test_readings_after_train_change_no_weight_and_those_of_the_test_no_epoch(
    keras: Any, tiny: Callable[[str], Any], dataset: str
) -> None:
    splits, normalisation = tiny(dataset)
    fitted, weights = learn(dataset, splits, normalisation, epochs=3)
    other_test, same_weights = learn(dataset, {**splits, "test": changed(splits["test"])}, normalisation, epochs=3)
    assert (other_test.best_epoch, other_test.curves) == (fitted.best_epoch, fitted.curves)
    assert all(np.array_equal(one, other) for one, other in zip(weights, same_weights, strict=True))

    # Of one epoch nothing can be chosen: validation readings then change the score, and no weight.
    first, after_one = learn(dataset, splits, normalisation, epochs=1)
    other_val, still_same = learn(dataset, {**splits, "val": changed(splits["val"])}, normalisation, epochs=1)
    assert other_val.validation != first.validation
    assert all(np.array_equal(one, other) for one, other in zip(after_one, still_same, strict=True))
    # The fault is found: other train readings lead to other weights.
    _, others = learn(dataset, {**splits, "train": changed(splits["train"])}, normalisation, epochs=1)
    assert not all(np.array_equal(one, other) for one, other in zip(after_one, others, strict=True))
