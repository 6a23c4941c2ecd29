"""The contracts are held to faults: each is planted in a copy of a data set or of a problem, and found by the contract named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from dataset_contracts import DATASET_CONTRACTS, DatasetCase, check
from problem_contracts import PROBLEM_CONTRACTS, Problem, ProblemCase, scored_split, tables_with_gaps

from tasks.datasets import DATASETS
from tasks.datasets.jena.sample import SAMPLE_FILE, simulated_weather, write_csv_zip
from tasks.datasets.jena.spec import COLUMNS
from tasks.datasets.request import TableRequest
from tasks.datasets.row_ids import content_ids
from tasks.datasets.spec import DatasetSpec, Parsed, SplitTables
from tasks.models import PROBLEMS
from tasks.models.networks.jena import FORECAST
from tasks.models.spec import Variant, restored
from tasks.models.windows import WindowLearner

WINDOWS = FORECAST.task
ROWS = 9_000
MIN_FAULTS = 25
"""So many faults are planted at least."""


def simulate(folder: Path) -> tuple[Path, ...]:
    return (write_csv_zip(simulated_weather(ROWS, seed=3, start="2009-05-01T00:00:00"), folder / SAMPLE_FILE),)


SOUND_SPEC: DatasetSpec = replace(DATASETS["jena"], simulate=simulate)
SOUND_PROBLEM: Problem = PROBLEMS["jena"]

# With other windows than those that lie in the split and in one run, nothing stands beside its truth.
ELSEWHERE = (
    "windows_see_no_future",
    "targets_stand_beside_predictions",
    "naive_is_what_its_name_says",
    "restored_predicts_on_other_statistics",
)
# A fault has the contract that names it, and those that it cannot but break too.
SPEC_FAULTS: dict[str, tuple[tuple[str, ...], Callable[[], DatasetSpec]]] = {}
PROBLEM_FAULTS: dict[str, tuple[tuple[str, ...], Callable[[], Problem]]] = {}
BASELINE_FAULTS: dict[str, tuple[tuple[str, ...], Callable[[Any], None]]] = {}


def spec_fault(contract: str, *further: str) -> Callable[[Callable[[], DatasetSpec]], None]:
    def keep(function: Callable[[], DatasetSpec]) -> None:
        SPEC_FAULTS[function.__name__] = ((contract, *further), function)

    return keep


def problem_fault(contract: str, *further: str) -> Callable[[Callable[[], Problem]], None]:
    def keep(function: Callable[[], Problem]) -> None:
        PROBLEM_FAULTS[function.__name__] = ((contract, *further), function)

    return keep


def baseline_fault(contract: str, *further: str) -> Callable[[Callable[[Any], None]], None]:
    def keep(function: Callable[[Any], None]) -> None:
        BASELINE_FAULTS[function.__name__] = ((contract, *further), function)

    return keep


# Faults of a data set.


def split_with(change: Callable[[Parsed, SplitTables], SplitTables]) -> DatasetSpec:
    return replace(SOUND_SPEC, split=lambda parsed: change(parsed, SOUND_SPEC.split(parsed)))


def parse_with(change: Callable[[Parsed], Parsed]) -> DatasetSpec:
    return replace(SOUND_SPEC, parse=lambda files, request: change(SOUND_SPEC.parse(files, request)))


@spec_fault("statistics_are_of_train_rows")
def statistics_of_all_rows() -> DatasetSpec:
    def change(parsed: Parsed, made: SplitTables) -> SplitTables:
        return normalised(parsed, made, rows=slice(None))

    return split_with(change)


@spec_fault("statistics_are_of_train_rows")
def statistics_of_train_and_val_rows() -> DatasetSpec:
    def change(parsed: Parsed, made: SplitTables) -> SplitTables:
        return normalised(parsed, made, rows=slice(0, made.tables["train"].num_rows + made.tables["val"].num_rows))

    return split_with(change)


@spec_fault("statistics_are_of_train_rows")
def statistics_that_are_constants() -> DatasetSpec:
    def change(parsed: Parsed, made: SplitTables) -> SplitTables:
        return normalised(parsed, made, rows=None)

    return split_with(change)


def normalised(parsed: Parsed, made: SplitTables, *, rows: slice | None) -> SplitTables:
    """Return the splits with the statistics of these rows, or with constants."""
    mean, std, whole = {}, {}, {}
    for name in COLUMNS:
        values = np.asarray(parsed.table[name], dtype=np.float64)
        mean[name] = 5.0 if rows is None else float(values[rows].mean())
        std[name] = 9.0 if rows is None else float(values[rows].std())
        whole[name] = ((values - mean[name]) / std[name]).astype(np.float32)
    tables, first = {}, 0
    for split, table in made.tables.items():
        stop = first + table.num_rows
        tables[split] = pa.table(
            {name: whole[name][first:stop] if name in whole else table[name] for name in table.column_names}, schema=table.schema
        )
        first = stop
    return replace(made, tables=tables, normalisation={"mean": mean, "std": std})


@spec_fault("normalisation_can_be_undone")
def statistics_of_other_columns() -> DatasetSpec:
    def change(parsed: Parsed, made: SplitTables) -> SplitTables:
        del parsed
        mean = made.normalisation["mean"]
        turned = dict(zip(mean, [*list(mean.values())[1:], mean[COLUMNS[0]]], strict=True))
        return replace(made, normalisation={**made.normalisation, "mean": turned})

    return split_with(change)


@spec_fault("splits_are_whole_and_share_no_row", "splits_follow_in_time", "normalisation_can_be_undone")
def a_row_in_two_splits() -> DatasetSpec:
    def change(parsed: Parsed, made: SplitTables) -> SplitTables:
        del parsed
        train, val = made.tables["train"], made.tables["val"]
        moved = pa.concat_tables([train.slice(train.num_rows - 1), val.slice(1)])
        return replace(made, tables={**made.tables, "val": moved})

    return split_with(change)


@spec_fault("splits_are_whole_and_share_no_row")
def a_last_row_lost() -> DatasetSpec:
    def change(parsed: Parsed, made: SplitTables) -> SplitTables:
        del parsed
        test = made.tables["test"]
        return replace(made, tables={**made.tables, "test": test.slice(0, test.num_rows - 1)})

    return split_with(change)


@spec_fault("splits_follow_in_time", "normalisation_can_be_undone")
def splits_out_of_order() -> DatasetSpec:
    def change(parsed: Parsed, made: SplitTables) -> SplitTables:
        del parsed
        rows = np.arange(made.tables["test"].num_rows)
        rows[[5, 900]] = rows[[900, 5]]
        return replace(made, tables={**made.tables, "test": made.tables["test"].take(pa.array(rows))})

    return split_with(change)


@spec_fault("schema_is_the_promised_one")
def columns_in_another_order() -> DatasetSpec:
    def change(parsed: Parsed) -> Parsed:
        names = parsed.table.column_names
        return replace(parsed, table=parsed.table.select([names[0], names[2], names[1], *names[3:]]))

    return parse_with(change)


@spec_fault("sample_is_deterministic")
def a_sample_by_chance() -> DatasetSpec:
    seeds: Iterator[int] = iter(range(1_000))

    def by_chance(folder: Path) -> tuple[Path, ...]:
        return (write_csv_zip(simulated_weather(ROWS, seed=next(seeds), start="2009-05-01T00:00:00"), folder / SAMPLE_FILE),)

    return replace(SOUND_SPEC, simulate=by_chance)


@spec_fault("repairs_are_counted_and_made")
def a_repair_counted_and_not_made() -> DatasetSpec:
    def change(parsed: Parsed) -> Parsed:
        count = next(repair.count for repair in parsed.repairs if repair.name == "out_of_order_rows")
        rows = np.arange(parsed.table.num_rows)
        for i in range(count):
            rows[[100 + 3 * i, 101 + 3 * i]] = rows[[101 + 3 * i, 100 + 3 * i]]
        return replace(parsed, table=parsed.table.take(pa.array(rows)))

    return parse_with(change)


@spec_fault("repairs_are_counted_and_made", "limits_are_enforced")
def a_repair_made_and_not_counted() -> DatasetSpec:
    def change(parsed: Parsed) -> Parsed:
        return replace(parsed, repairs=tuple(replace(repair, count=0, share=0.0) for repair in parsed.repairs))

    return parse_with(change)


@spec_fault("repairs_are_counted_and_made")
def a_repair_of_sound_values() -> DatasetSpec:
    def change(parsed: Parsed) -> Parsed:
        if not any(repair.count for repair in parsed.repairs if repair.name == "missing_values"):
            return parsed
        at = parsed.table.schema.get_field_index(COLUMNS[3])
        values = np.asarray(parsed.table[COLUMNS[3]]) + np.float32(1)
        return replace(parsed, table=parsed.table.set_column(at, parsed.table.schema.field(at), pa.array(values)))

    return parse_with(change)


@spec_fault("limits_are_enforced")
def a_limit_not_enforced() -> DatasetSpec:
    def change(parsed: Parsed) -> Parsed:
        # Whatever share is found is said to be allowed.
        return replace(parsed, repairs=tuple(replace(each, limit=max(each.limit, each.share)) for each in parsed.repairs))

    return parse_with(change)


@spec_fault("repairs_are_described", "limits_are_enforced")
def a_share_of_nothing() -> DatasetSpec:
    def change(parsed: Parsed) -> Parsed:
        return replace(parsed, repairs=tuple(replace(repair, share=repair.limit) for repair in parsed.repairs))

    return parse_with(change)


@spec_fault("suite_rejects_a_broken_frame")
def a_suite_that_only_warns() -> DatasetSpec:
    def expectations(request: TableRequest) -> Any:
        return tuple(replace(expectation, severity="warning") for expectation in SOUND_SPEC.expectations(request))

    return replace(SOUND_SPEC, expectations=expectations)


@spec_fault("suite_judges_columns_that_are_there")
def a_suite_on_a_column_that_is_not_there() -> DatasetSpec:
    def expectations(request: TableRequest) -> Any:
        suite = SOUND_SPEC.expectations(request)
        return (*suite, replace(suite[-1], kind="column_values_to_not_be_null", arguments={"column": "snow"}))

    return replace(SOUND_SPEC, expectations=expectations)


# Faults of a problem.


class JenaLearner(WindowLearner):
    """Jena's learner, of which every fault breaks one method."""

    def __init__(self, splits: Any, normalisation: Any, *, accelerated: Any, variant: Any) -> None:
        super().__init__(splits, normalisation, task=WINDOWS, dataset="jena", accelerated=accelerated, variant=variant)


def learner_of(broken: type[JenaLearner]) -> Problem:
    def build(splits: Any, normalisation: Any, variant: Any, accelerated: Any) -> JenaLearner:
        return broken(splits, normalisation, accelerated=accelerated, variant=variant)

    return replace(SOUND_PROBLEM, learner=build)


@problem_fault(
    "windows_see_no_future",
    "batches_are_the_train_split",
    "export_predicts_as_the_learner",
    "restored_predicts_on_other_statistics",
)
def a_window_that_holds_its_target() -> Problem:
    class Broken(JenaLearner):
        def predict_rows(self, ids: Any) -> Any:
            return super().predict_rows(ids) + 0.5 * self.targets_of_rows(ids)

    return learner_of(Broken)


@problem_fault("windows_span_no_gap_and_no_split", *ELSEWHERE)
def windows_over_gaps() -> Problem:
    def build(splits: Any, normalisation: Any, variant: Any, accelerated: Any) -> JenaLearner:
        closed = dict(splits)
        for name, table in splits.items():
            at = table.schema.get_field_index("segment")
            closed[name] = table.set_column(at, "segment", pa.array(np.zeros(table.num_rows, dtype=np.int32)))
        return JenaLearner(closed, normalisation, accelerated=accelerated, variant=variant)

    return replace(SOUND_PROBLEM, learner=build)


@problem_fault("windows_span_no_gap_and_no_split", *ELSEWHERE, "every_row_can_train")
def windows_across_splits() -> Problem:
    class Broken(JenaLearner):
        def __init__(self, *tables: Any, **settings: Any) -> None:
            super().__init__(*tables, **settings)
            first = int(self.rows["test"][0])
            self.rows["test"] = np.arange(first - 1500, int(self.rows["test"][-1]) + 1, dtype=np.int32)

    return learner_of(Broken)


@problem_fault("targets_stand_beside_predictions", "validation_is_of_val_rows", "restored_predicts_on_other_statistics")
def a_horizon_of_an_hour_more() -> Problem:
    class Broken(JenaLearner):
        def targets_of_rows(self, ids: Any) -> Any:
            return self.table[np.minimum(ids + WINDOWS.horizon_rows + 6, len(self.table) - 1), WINDOWS.target_index][:, None]

    return learner_of(Broken)


@problem_fault("targets_stand_beside_predictions", "batches_are_the_train_split", "restored_predicts_on_other_statistics")
def targets_in_reverse() -> Problem:
    class Broken(JenaLearner):
        def targets(self, split: str) -> Any:
            return super().targets(split)[::-1]

    return learner_of(Broken)


@problem_fault("naive_is_what_its_name_says")
def a_naive_baseline_that_knows_the_truth() -> Problem:
    def scored(learner: Any) -> Any:
        seen = scored_split(SOUND_PROBLEM, learner)
        return replace(seen, naive=seen.truth)

    return replace(SOUND_PROBLEM, scored_split=scored)


@problem_fault("naive_is_what_its_name_says")
def a_naive_baseline_of_another_hour() -> Problem:
    def scored(learner: Any) -> Any:
        earlier = learner.table[learner.rows["test"] - 6, WINDOWS.target_index]
        return replace(scored_split(SOUND_PROBLEM, learner), naive=learner.in_target_unit(earlier))

    return replace(SOUND_PROBLEM, scored_split=scored)


@problem_fault("restored_predicts_on_other_statistics")
def no_rescaling_of_a_restored_model() -> Problem:
    def restore(splits: Any, normalisation: Any, exported: Any) -> JenaLearner:
        from tasks.models.engine.accelerated import accelerate_for_scoring

        variant = restored(exported.get_layer("network"))
        accelerated = accelerate_for_scoring(exported.get_layer("network"), variant=variant)
        return JenaLearner(splits, normalisation, accelerated=accelerated, variant=variant)

    return replace(SOUND_PROBLEM, restore=restore)


@problem_fault("seeds_make_the_weights")
def a_seed_ignored() -> Problem:
    class Broken(JenaLearner):
        def __init__(self, *tables: Any, **settings: Any) -> None:
            super().__init__(*tables, **settings)
            rng = np.random.default_rng(0)
            self.network.set_weights([rng.normal(0, 0.05, weight.shape) for weight in self.network.get_weights()])

    return learner_of(Broken)


@problem_fault("seeds_make_the_weights", "windows_see_no_future", "validation_is_of_val_rows")
def weights_by_chance() -> Problem:
    class Broken(JenaLearner):
        def __init__(self, *tables: Any, **settings: Any) -> None:
            super().__init__(*tables, **settings)
            rng = np.random.default_rng()
            self.network.set_weights([rng.normal(0, 0.5, weight.shape) for weight in self.network.get_weights()])

    return learner_of(Broken)


@problem_fault("batches_follow_from_seed_and_epoch")
def every_epoch_in_one_order() -> Problem:
    class Broken(JenaLearner):
        def batches(self, *, seed: int, epoch: int, steps: int | None) -> Any:
            del epoch
            return super().batches(seed=seed, epoch=0, steps=steps)

    return learner_of(Broken)


@problem_fault("batches_follow_from_seed_and_epoch")
def batches_by_chance() -> Problem:
    class Broken(JenaLearner):
        def batches(self, *, seed: int, epoch: int, steps: int | None) -> Any:
            drawn = int(np.random.default_rng().integers(2**31))
            return super().batches(seed=seed + drawn, epoch=epoch, steps=steps)

    return learner_of(Broken)


@problem_fault("batches_are_the_train_split")
def batches_with_val_rows() -> Problem:
    class Broken(JenaLearner):
        def batches(self, *, seed: int, epoch: int, steps: int | None) -> Any:
            own, self.rows["train"] = self.rows["train"], np.concatenate([self.rows["train"], self.rows["val"]])
            try:
                return super().batches(seed=seed, epoch=epoch, steps=steps)
            finally:
                self.rows["train"] = own

    return learner_of(Broken)


@problem_fault("batches_are_the_train_split")
def batches_of_half_the_train_split() -> Problem:
    class Broken(JenaLearner):
        def batches(self, *, seed: int, epoch: int, steps: int | None) -> Any:
            own, self.rows["train"] = self.rows["train"], self.rows["train"][: len(self.rows["train"]) // 2]
            try:
                return super().batches(seed=seed, epoch=epoch, steps=2 * (steps or -(-len(own) // self.variant.batch_size)))
            finally:
                self.rows["train"] = own

    return learner_of(Broken)


@problem_fault("validation_is_of_val_rows")
def validation_on_test_rows() -> Problem:
    class Broken(JenaLearner):
        def validation(self) -> dict[str, float]:
            return {"val_loss": float(np.mean(np.abs(self.predict("test") - self.targets("test"))))}

    return learner_of(Broken)


@problem_fault("validation_is_of_val_rows")
def validation_on_train_and_val_rows() -> Problem:
    class Broken(JenaLearner):
        def validation(self) -> dict[str, float]:
            errors = [np.abs(self.predict(split) - self.targets(split)) for split in ("train", "val")]
            return {"val_loss": float(np.mean(np.concatenate(errors)))}

    return learner_of(Broken)


@problem_fault("better_is_better")
def greater_losses_are_better() -> Problem:
    return replace(SOUND_PROBLEM, is_better=lambda new, old: new["val_loss"] > old["val_loss"])


@problem_fault("better_is_better")
def equal_losses_are_better() -> Problem:
    return replace(SOUND_PROBLEM, is_better=lambda new, old: new["val_loss"] <= old["val_loss"])


@problem_fault("export_predicts_as_the_learner")
def examples_without_normalisation() -> Problem:
    def examples(learner: Any, count: int) -> Any:
        inputs, outputs = SOUND_PROBLEM.examples(learner, count)
        return (inputs - learner.mean.astype(np.float32)) / learner.std.astype(np.float32), outputs

    return replace(SOUND_PROBLEM, examples=examples)


@problem_fault("examples_are_of_the_test_split")
def examples_of_train_rows() -> Problem:
    def examples(learner: Any, count: int) -> Any:
        chosen = learner.rows["train"][:count]
        return learner.raw_windows(chosen), learner.in_target_unit(learner.predict_rows(chosen))

    return replace(SOUND_PROBLEM, examples=examples)


@problem_fault("rows_are_known_again")
def ids_of_normalised_readings() -> Problem:
    return replace(SOUND_PROBLEM, row_ids=content_ids)


@problem_fault("rows_are_known_again")
def ids_of_places_in_a_split() -> Problem:
    return replace(SOUND_PROBLEM, row_ids=lambda table: np.arange(table.num_rows))


@problem_fault("every_row_can_train")
def a_training_on_no_more_rows_than_a_train_split_has() -> Problem:
    class Broken(JenaLearner):
        def __init__(self, *tables: Any, **settings: Any) -> None:
            super().__init__(*tables, **settings)
            self.rows["train"] = self.rows["train"][self.rows["train"] < ROWS // 2]

    return learner_of(Broken)


# Faults of a problem whose examples are reviews.

SOUND_REVIEWS: Problem = PROBLEMS["imdb"]


@problem_fault("naive_is_what_its_name_says")
def a_majority_of_test_labels() -> Problem:
    def scored(learner: Any) -> Any:
        seen = scored_split(SOUND_REVIEWS, learner)
        return replace(seen, naive=np.full_like(seen.naive, np.float32(learner.labels["test"].mean() > 0.5)))

    return replace(SOUND_REVIEWS, scored_split=scored)


@problem_fault("better_is_better")
def smaller_accuracies_are_better() -> Problem:
    def is_better(new: Mapping[str, float], old: Mapping[str, float]) -> bool:
        return (new["val_accuracy"], new["val_loss"]) < (old["val_accuracy"], old["val_loss"])

    return replace(SOUND_REVIEWS, is_better=is_better)


@problem_fault("restored_predicts_on_other_statistics")
def no_translation_for_a_restored_model() -> Problem:
    def restore(splits: Any, normalisation: Any, exported: Any) -> Any:
        theirs = exported.get_layer("encode").words
        words = pa.table({"rank": pa.array(range(1, len(theirs) + 1), pa.int32()), "word": list(theirs)})
        return SOUND_REVIEWS.restore({**splits, "words": words}, normalisation, exported)

    return replace(SOUND_REVIEWS, restore=restore)


# Faults of a linear baseline.


def fit_on(learner: Any, *splits: str) -> None:
    """Leave a linear regression on the last reading of these splits' windows in a learner."""
    rows = np.concatenate([learner.rows[split] for split in splits])
    inputs = np.column_stack([learner.table[rows - 6], np.ones(len(rows))])
    solved = np.linalg.lstsq(inputs, learner.table[rows + WINDOWS.horizon_rows, WINDOWS.target_index], rcond=None)[0]
    learner.network.set_weights([solved[:-1, None], solved[-1:]])


def sound_fit(learner: Any) -> None:
    fit_on(learner, "train")


@baseline_fault("baseline_is_fitted_from_train_rows")
def a_baseline_fitted_on_test_rows(learner: Any) -> None:
    fit_on(learner, "test")


@baseline_fault("baseline_is_fitted_from_train_rows")
def a_baseline_fitted_on_val_rows_too(learner: Any) -> None:
    fit_on(learner, "train", "val")


def tiny_network() -> Any:
    """Return a linear network on a window's last reading."""
    import keras

    layers = [
        keras.Input((WINDOWS.lookback_rows // 6, len(COLUMNS))),
        keras.layers.Cropping1D((WINDOWS.lookback_rows // 6 - 1, 0)),
    ]
    return keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(1)], name="network")


def tiny_reader() -> Any:
    """Return a linear network on the mean of a review's words."""
    import keras

    layers = [keras.Input((None,), dtype="int32"), keras.layers.Embedding(10_000, 2, embeddings_initializer="random_normal")]
    pooled = [keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1, activation="sigmoid")]
    return keras.Sequential([*layers, *pooled], name="network")


READER = Variant(name="tiny", summary="mean of words, Dense(1)", network=tiny_reader, epochs=1)
TINY = Variant(name="tiny", summary="Dense(1)", network=tiny_network, epochs=1)


@pytest.fixture(scope="module")
def case_of(
    keras: Any, tiny: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Problem, Callable[[Any], None]], ProblemCase]:
    """A problem with small tables: a series with gaps, or some reviews."""
    files = {path.name: path for path in simulate(tmp_path_factory.mktemp("sound"))}
    series = tables_with_gaps(SOUND_SPEC, SOUND_SPEC.parse(files, TableRequest(source="sample")), rows=ROWS)
    reviews, vocabulary = tiny("imdb")

    def make(problem: Problem, fit: Callable[[Any], None]) -> ProblemCase:
        if problem.dataset == SOUND_REVIEWS.dataset:
            baseline = SOUND_REVIEWS.variants[SOUND_REVIEWS.baselines[0]]
            return ProblemCase(problem, reviews, vocabulary, READER, baseline)
        return ProblemCase(problem, series.tables, series.normalisation, TINY, replace(TINY, fit_closed_form=fit))

    return make


def broken_contracts(case: Any, contracts: Mapping[str, Callable[[Any], None]]) -> dict[str, str]:
    """Return the contracts that a case breaks, with what each says."""
    broken = {}
    for name in contracts:
        try:
            check(name, case, contracts)
        except AssertionError as error:
            broken[name] = str(error)
    return broken


FAULTS: Mapping[str, tuple[tuple[str, ...], Any]] = {**SPEC_FAULTS, **PROBLEM_FAULTS, **BASELINE_FAULTS}


def test_the_sound_copies_hold_every_contract(case_of: Any, tmp_path: Path) -> None:
    assert broken_contracts(DatasetCase(SOUND_SPEC, tmp_path), DATASET_CONTRACTS) == {}
    for problem in (SOUND_PROBLEM, SOUND_REVIEWS):
        assert broken_contracts(case_of(problem, sound_fit), PROBLEM_CONTRACTS) == {}
    assert len(FAULTS) >= MIN_FAULTS


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(case_of: Any, tmp_path: Path, fault: str) -> None:
    (contract, *further), plant = FAULTS[fault]
    if fault in SPEC_FAULTS:
        broken = broken_contracts(DatasetCase(plant(), tmp_path), DATASET_CONTRACTS)
    elif fault in PROBLEM_FAULTS:
        broken = broken_contracts(case_of(plant(), sound_fit), PROBLEM_CONTRACTS)
    else:
        broken = broken_contracts(case_of(SOUND_PROBLEM, plant), PROBLEM_CONTRACTS)
    assert contract in broken, f"{contract} did not find it; found by {sorted(broken)}"
    assert broken[contract].startswith(contract)
    assert set(broken) == {contract, *further}, broken
