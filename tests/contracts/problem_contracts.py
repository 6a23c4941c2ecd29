"""What every data set's learner promises, as functions: the tests hold the registry to them, and planted faults hold them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.datasets.spec import SPLITS, DatasetSpec, Parsed, SplitTables
from tasks.datasets.time_series import edge_facts, edges_of_facts
from tasks.models.device import Device
from tasks.models.engine.accelerated import accelerate_for_training
from tasks.models.engine.execution import Execution
from tasks.models.spec import Problem, Variant
from tasks.training.fitting import with_all_rows_to_train

CPU = Device(kind="cpu", count=1, backend="tensorflow")
PLAIN = Execution(use_cudnn=False, jit_compile=False)


def scored_split(problem: Problem, learner: Any) -> Any:
    """Return what the evaluation sees of the test split."""
    return problem.scored_split(learner)


def plot_data(case: ProblemCase) -> Any:
    """Return what the pictures show of a case's tables."""
    return case.problem.plot_data(case.splits, case.normalisation)


@dataclass(frozen=True)
class ProblemCase:
    """A problem with small tables of its data set, a small network and a linear baseline.

    Attributes:
        learners: Those that are built, by what they are of; contracts only read them.
    """

    problem: Problem
    splits: Mapping[str, pa.Table]
    normalisation: Mapping[str, Any]
    variant: Variant
    baseline: Variant
    learners: dict[Any, Any] = field(default_factory=dict)

    def build(self, *, disturbed: tuple[str, ...] = (), seed: int = 0) -> Any:
        """Return the network on the tables, of which some splits hold other values."""
        key = (disturbed, seed)
        if key not in self.learners:
            self.learners[key] = self.on(self.disturbed(*disturbed), seed=seed)
        return self.learners[key]

    def on(self, splits: Mapping[str, pa.Table], *, seed: int = 0, variant: Variant | None = None) -> Any:
        variant = variant or self.variant
        accelerated = accelerate_for_training(variant, device=CPU, seed=seed, execution=PLAIN)
        return self.problem.learner(splits, self.normalisation, variant, accelerated)

    def disturbed(self, *names: str) -> dict[str, pa.Table]:
        """Return the tables with other readings, or the other labels, in some splits."""
        return {name: _disturbed(table) if name in names else table for name, table in self.splits.items()}

    @cached_property
    def scored(self) -> Any:
        return scored_split(self.problem, self.build())

    @cached_property
    def pictures(self) -> Any:
        return plot_data(self)

    @property
    def is_series(self) -> bool:
        """Whether examples are windows of one series of readings."""
        return "horizon_rows" in self.problem.task

    @cached_property
    def target_rows(self) -> Any:
        """The row of every test example's target, counted over all splits."""
        return np.searchsorted(self.pictures.stamp, self.pictures.target_stamp)


def tables_with_gaps(spec: DatasetSpec, parsed: Parsed, *, rows: int = 12_000) -> SplitTables:
    """Return the splits of the first rows of a series, a gap near the start of each."""
    table = parsed.table.slice(0, rows)
    share = table.num_rows / parsed.table.num_rows
    rows = table.num_rows
    # The edges come where they were, in shares of the rows.
    every, stamps = (whole["timestamp"].to_numpy().astype("datetime64[s]").astype(np.int64) for whole in (parsed.table, table))
    first_rows = [int(np.searchsorted(every, edge) * share) for edge in edges_of_facts(parsed.facts) or ()]
    facts = {**parsed.facts, **edge_facts((int(stamps[first_rows[0]]), int(stamps[first_rows[1]])))}
    whole = spec.split(replace(parsed, table=table, facts=facts))
    kept, first = np.ones(rows, dtype=bool), 0
    for split in SPLITS:
        kept[first + 300 : first + 310] = False
        first += whole.tables[split].num_rows
    return spec.split(replace(parsed, table=table.filter(pa.array(kept)), facts=facts))


def _close(some: Any, others: Any, *, atol: float) -> bool:
    return np.shape(some) == np.shape(others) and np.allclose(some, others, atol=atol)


def _disturbed(table: pa.Table, rows: slice = slice(None)) -> pa.Table:
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_floating(column.type):
            values = column.to_numpy(zero_copy_only=False).copy()
            values[rows] = 0.5 - 1.5 * values[rows]
            column = pa.array(values, type=column.type)
        elif name == "label":
            column = pa.array(1 - column.to_numpy(), type=column.type)
        columns[name] = column
    return pa.table(columns)


def seeds_make_the_weights(case: ProblemCase) -> None:
    first, same, other = case.build(), case.on(case.splits), case.build(seed=1)
    pairs = [learner.network.get_weights() for learner in (first, same, other)]
    assert all(np.array_equal(a, b) for a, b in zip(pairs[0], pairs[1], strict=True)), "one seed, two networks"
    assert any(not np.array_equal(a, b) for a, b in zip(pairs[0], pairs[2], strict=True)), "two seeds, one network"


def _drawn(learner: Any, **where: Any) -> list[Any]:
    count, batches = learner.batches(**where)
    made = list(batches)
    assert len(made) == count, "another number of batches than was told"
    return made


def batches_follow_from_seed_and_epoch(case: ProblemCase) -> None:
    def inputs(**where: int) -> list[Any]:
        return [batch.inputs for batch in _drawn(case.build(), steps=None, **where)]

    def equal(a: list[Any], b: list[Any]) -> bool:
        return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))

    first = inputs(seed=3, epoch=1)
    assert equal(first, inputs(seed=3, epoch=1)), "a repeated epoch has other batches"
    assert not equal(first, inputs(seed=3, epoch=2)), "every epoch has the same batches"
    assert not equal(first, inputs(seed=4, epoch=1)), "every seed has the same batches"


def batches_are_the_train_split(case: ProblemCase) -> None:
    learner = case.build()
    batches = _drawn(learner, seed=0, epoch=0, steps=None)
    pairs = np.concatenate(
        [
            np.column_stack([np.asarray(batch.model.predict_on_batch(batch.inputs))[:, 0], batch.targets[:, 0]])
            for batch in batches
        ]
    )
    train = np.column_stack([learner.predict("train"), learner.targets("train")])
    assert len(pairs) >= len(train), "an epoch leaves examples out"
    for some, others, said in ((pairs, train, "a batch has no example of train"), (train, pairs, "an example is in no batch")):
        order = others[np.argsort(others[:, 0])]
        place = np.searchsorted(order[:, 0], some[:, 0])
        near = np.full(len(some), np.inf)
        for offset in range(-8, 8):
            other = order[(place + offset).clip(0, len(order) - 1)]
            near = np.minimum(near, np.abs(other - some).max(axis=1))
        assert (near < 1e-3).mean() > 0.99, f"{said}, with its target"


def targets_stand_beside_predictions(case: ProblemCase) -> None:
    learner, seen = case.build(), case.scored
    for name in SPLITS:
        assert learner.predict(name).shape == learner.targets(name).shape, f"{name}: other shapes"
    assert seen.prediction.shape == seen.truth.shape == seen.naive.shape == learner.targets("test").shape, "other shapes"
    assert np.isfinite(seen.prediction).all(), "a prediction is no number"
    assert seen.scale > 0, "the scale is not positive"
    if not case.is_series:
        assert np.array_equal(seen.truth, np.asarray(case.splits["test"]["label"])), "the truth is not the label"
        return
    assert _close(seen.truth, case.pictures.value[case.target_rows], atol=1e-3), "the truth is another row's"
    name, task = case.problem.task["target"], case.problem.task
    for split in SPLITS:
        values = np.asarray(case.splits[split][name])
        rows = _target_rows(case, split)
        assert _close(learner.targets(split), values[rows], atol=1e-5), f"{split}: targets are not {task['horizon_rows']} on"


def _target_rows(case: ProblemCase, split: str) -> Any:
    """Return the rows of the targets of a split, by its stamps alone: a whole window before each, all in one run."""
    task = case.problem.task
    before = task["lookback_rows"] + task["horizon_rows"]
    seconds = np.asarray(case.splits[split]["timestamp"]).astype("datetime64[s]").astype(np.int64)
    step = int(np.median(np.diff(seconds)))
    rows = np.arange(before, len(seconds))
    return rows[seconds[rows] - seconds[rows - before] == before * step]


def windows_span_no_gap_and_no_split(case: ProblemCase) -> None:
    if not case.is_series:
        return
    before = case.problem.task["lookback_rows"] + case.problem.task["horizon_rows"]
    for split in SPLITS:
        found, expected = len(case.build().targets(split)), len(_target_rows(case, split))
        assert expected < case.splits[split].num_rows - before, f"{split}: the tables of this test have no gap"
        assert found == expected, f"{split}: {found} windows, {expected} lie in the split and in one run"


def windows_see_no_future(case: ProblemCase) -> None:
    """Readings from the window's end on may be any: the prediction stays. Those before change it."""
    if not case.is_series:
        return
    horizon = case.problem.task["horizon_rows"]
    rows, first = _target_rows(case, "test"), case.build()
    example = len(rows) // 2
    end = int(rows[example]) - horizon
    later = case.on({**case.splits, "test": _disturbed(case.splits["test"], slice(end, None))})
    assert _close(later.predict("test")[example], first.predict("test")[example], atol=1e-5), "it sees what comes later"
    earlier = case.on({**case.splits, "test": _disturbed(case.splits["test"], slice(end - case.problem.task["step_rows"], end))})
    assert not _close(earlier.predict("test")[example], first.predict("test")[example], atol=1e-5), "it ends too early"


def naive_is_what_its_name_says(case: ProblemCase) -> None:
    naive = case.scored.naive
    if case.problem.naive == "persistence":
        rows = case.target_rows - case.problem.task["horizon_rows"]
        assert _close(naive, case.pictures.value[rows], atol=1e-3), "it is not the last reading"
    elif case.problem.naive == "majority":
        for disturbed in ((), ("train",), ("test",)):
            label = np.asarray(case.disturbed(*disturbed)["train"]["label"])
            seen = scored_split(case.problem, case.build(disturbed=disturbed)).naive
            assert (seen == float(label.mean() > 0.5)).all(), "it is not the more frequent label of train"
    else:
        raise AssertionError(f"no contract knows what {case.problem.naive} means: say it here")


def validation_is_of_val_rows(case: ProblemCase) -> None:
    before = case.build().validation()
    assert case.problem.validation_metric in before, "it lacks the figure that people read"
    assert all(np.isfinite(value) for value in before.values()), "a figure is no number"
    assert case.build(disturbed=("train", "test")).validation() == before, "it follows train or test rows"
    after = case.build(disturbed=("val",)).validation()
    assert all(after[name] != value for name, value in before.items()), "it does not follow val rows"


def better_is_better(case: ProblemCase) -> None:
    better = case.problem.is_better
    same = {"val_loss": 0.5, "val_accuracy": 0.5}
    assert not better(same, dict(same)), "a figure beats itself"
    assert better(same | {"val_loss": 0.4}, same), "a smaller loss is no better"
    assert not better(same, same | {"val_loss": 0.4}), "a greater loss is better"
    if case.problem.validation_metric == "val_accuracy":
        assert better(same | {"val_accuracy": 0.6}, same), "a greater accuracy is no better"
        assert not better(same, same | {"val_accuracy": 0.6}), "a smaller accuracy is better"


def baseline_is_fitted_from_train_rows(case: ProblemCase) -> None:
    def fitted(*disturbed: str) -> list[Any]:
        learner = case.on(case.disturbed(*disturbed), variant=case.baseline)
        assert case.baseline.fit_closed_form is not None, "it has no linear baseline"
        case.baseline.fit_closed_form(learner)
        return [np.asarray(weight) for weight in learner.network.get_weights()]

    def equal(a: list[Any], b: list[Any]) -> bool:
        return all(_close(x, y, atol=1e-6) for x, y in zip(a, b, strict=True))

    weights = fitted()
    assert equal(weights, fitted("val", "test")), "its weights follow val or test rows"
    assert not equal(weights, fitted("train")), "its weights do not follow train rows"


def export_predicts_as_the_learner(case: ProblemCase) -> None:
    learner = case.build()
    inputs, outputs = case.problem.examples(learner, 5)
    assert outputs.shape == (len(inputs),) == (5,), "other shapes"
    import keras

    made = np.asarray(learner.export()(keras.ops.convert_to_tensor(inputs)))
    assert made.shape == (len(inputs), 1), "the model returns another shape"
    assert _close(made[:, 0], outputs, atol=1e-3), "the whole model predicts something else"


def examples_are_of_the_test_split(case: ProblemCase) -> None:
    _, outputs = case.problem.examples(case.build(), 5)
    near = np.abs(outputs[:, None] - case.scored.prediction[None, :]).min(axis=1)
    assert (near < 1e-3).all(), "an example is predicted as no test example is"


def restored_predicts_on_other_statistics(case: ProblemCase) -> None:
    """The same readings on another scale, or the same words by other ranks, are predicted the same."""
    splits, normalisation = dict(case.splits), dict(case.normalisation)
    if "mean" in normalisation:
        ours = case.normalisation
        normalisation["mean"] = {name: value + 2 for name, value in ours["mean"].items()}
        normalisation["std"] = {name: value * 3 for name, value in ours["std"].items()}
        for split in SPLITS:
            table = splits[split]
            columns = {name: table[name] for name in table.column_names}
            for name, mean in ours["mean"].items():
                raw = np.asarray(table[name], dtype=np.float64) * ours["std"][name] + mean
                values = (raw - normalisation["mean"][name]) / normalisation["std"][name]
                columns[name] = pa.array(values.astype(np.float32))
            splits[split] = pa.table(columns)
    elif "words" in splits:
        words = splits["words"]
        last = words.num_rows - 1
        splits["words"] = pa.table({"rank": words["rank"], "word": words["word"].take(pa.array([*range(last, -1, -1)]))})
        ranks = np.asarray(words["rank"]) + case.normalisation["rank_offset"]
        place = {int(old): int(new) for old, new in zip(ranks, ranks[::-1], strict=True)}
        for split in SPLITS:
            tokens = [[place.get(token, token) for token in review] for review in splits[split]["tokens"].to_pylist()]
            at = splits[split].schema.get_field_index("tokens")
            splits[split] = splits[split].set_column(at, "tokens", pa.array(tokens, type=pa.list_(pa.uint16())))
    restored = case.problem.restore(splits, normalisation, case.build().export())
    seen = scored_split(case.problem, restored)
    assert _close(seen.prediction, case.scored.prediction, atol=2e-3 * seen.scale), "it predicts something else"
    assert _close(seen.truth, case.scored.truth, atol=1e-3 * seen.scale), "the truth is another"


def rows_are_known_again(case: ProblemCase) -> None:
    """A row has one id in every table that it stands in, whatever the table's split, rows and statistics."""
    ids = {name: case.problem.row_ids(case.splits[name]) for name in SPLITS}
    for name in SPLITS:
        assert ids[name].shape == (case.splits[name].num_rows,), f"{name}: other shapes"
        assert ids[name].dtype == np.int64, f"{name}: an id is no number of 8 bytes"
        assert np.array_equal(case.problem.row_ids(case.splits[name].slice(7)), ids[name][7:]), "a row of fewer has another id"
        table = case.splits[name]
        columns = {column: table[column] for column in table.column_names}
        for column in case.normalisation.get("mean", {}):
            columns[column] = pa.array(np.asarray(table[column]) * np.float32(0.5) + np.float32(1))
        assert np.array_equal(case.problem.row_ids(pa.table(columns)), ids[name]), "another normalisation gives other ids"
    together = np.concatenate([ids[name] for name in SPLITS])
    if case.problem.is_series:
        assert (np.diff(together) > 0).all(), "the ids of a series do not rise"
    else:
        assert len(np.unique(together)) > 0.9 * len(together), "different rows have one id"


def every_row_can_train(case: ProblemCase) -> None:
    """A refit learns from the examples of every split."""
    merged, split = case.on(with_all_rows_to_train(case.splits)), case.build()
    examples = sum(len(split.targets(name)) for name in SPLITS)
    assert len(merged.targets("train")) >= examples, "an example of a split is not trained on"
    for name in SPLITS:
        assert np.isin(split.targets(name), merged.targets("train")).all(), f"a target of {name} is not trained on"
    assert np.array_equal(merged.targets("test"), split.targets("test")), "the test split is another"


PROBLEM_CONTRACTS: Mapping[str, Callable[[ProblemCase], None]] = {
    function.__name__: function
    for function in (
        seeds_make_the_weights,
        batches_follow_from_seed_and_epoch,
        batches_are_the_train_split,
        targets_stand_beside_predictions,
        windows_span_no_gap_and_no_split,
        windows_see_no_future,
        naive_is_what_its_name_says,
        validation_is_of_val_rows,
        better_is_better,
        baseline_is_fitted_from_train_rows,
        export_predicts_as_the_learner,
        examples_are_of_the_test_split,
        restored_predicts_on_other_statistics,
        rows_are_known_again,
        every_row_can_train,
    )
}
