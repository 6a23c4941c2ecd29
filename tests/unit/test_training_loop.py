"""The training loop on a small real network: repeatable, resumable, and keeping its best epoch."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from storage.errors import DataError
from tasks.models.engine.train_step import group_batches
from tasks.models.optimizers import averaged_adam, cosine
from tasks.models.spec import Batch, Budget, Variant
from tasks.models.training_loop import Fitted, Progress, fit

EXAMPLES, STEPS, FEATURES = 38, 4, 3


class Learner:
    """Short random series whose last reading is to be told; `figures` scripts the validation where it is given."""

    def __init__(
        self,
        keras: Any,
        *,
        seed: int = 0,
        recurrent: bool = False,
        dropout: float = 0.0,
        rate: float = 0.01,
        figures: Sequence[float] = (),
        nan_from_epoch: int | None = None,
        **variant: Any,
    ) -> None:
        keras.utils.set_random_seed(seed)
        layers = [keras.layers.Flatten(), keras.layers.Dense(4), keras.layers.Dropout(dropout)]
        if recurrent:
            layers = [keras.layers.GRU(4, dropout=dropout, recurrent_dropout=dropout, use_cudnn=False)]
        self.network = keras.Sequential([keras.Input((STEPS, FEATURES)), *layers, keras.layers.Dense(1)])
        given = {"network": lambda _: self.network, "summary": "", "epochs": 1, "learning_rate": rate}
        self.variant = Variant(name="small", **(given | variant))
        self.optimizer = self.variant.optimizer(rate)
        self.optimizer.build(self.network.trainable_variables)
        # A graph would take longer to make than these few steps to run.
        self.network.compile(optimizer=self.optimizer, loss="mae", jit_compile=False, run_eagerly=True)
        self.series = np.random.default_rng(1).normal(size=(EXAMPLES, STEPS, FEATURES)).astype(np.float32)
        self.truth = self.series[:, -1, :1]
        self._figures = list(figures)
        self._nan_from_epoch = nan_from_epoch
        self._epoch = 0

    def batches(self, *, seed: int, epoch: int, steps: int | None) -> tuple[int, Iterator[Batch]]:
        self._epoch = epoch
        truth = self.truth * np.float32(np.nan) if self._nan_from_epoch == epoch else self.truth
        order = np.random.default_rng((seed, epoch)).permutation(EXAMPLES)
        groups = [order[k : k + 16] for k in range(0, EXAMPLES, 16)][:steps]
        return len(groups), (Batch(self.network, self.series[ids], truth[ids]) for ids in groups)

    def predict(self, split: str) -> np.ndarray:
        return self.network(self.series, training=False).numpy()[:, 0]

    def targets(self, split: str) -> np.ndarray:
        return self.truth[:, 0]

    def validation(self) -> dict[str, float]:
        if self._figures:
            return {"val_loss": self._figures[self._epoch]}
        return {"val_loss": float(np.mean(np.abs(self.predict("val") - self.truth[:, 0])))}

    def export(self) -> Any:
        return self.network


class Kept:
    """What a training wrote: its checkpoints, and the weights that stood when each was written."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self.checkpoints: list[bytes] = []
        self.weights: list[list[np.ndarray]] = []

    def save(self, data: bytes) -> None:
        self.checkpoints.append(data)
        self.weights.append([np.copy(value) for value in self.learner.network.get_weights()])


def is_better(new: Mapping[str, float], old: Mapping[str, float]) -> bool:
    return new["val_loss"] < old["val_loss"]


def train(
    learner: Learner, *, epochs: int, patience: int = 100, seed: int = 0, checkpoint: bytes | None = None, **more: Any
) -> tuple[Fitted, Kept]:
    kept = Kept(learner)
    budget = Budget(epochs=epochs, steps_per_epoch=None, patience_epochs=patience)
    fitted = fit(
        learner,
        budget=budget,
        seed=seed,
        is_better=is_better,
        load_checkpoint=lambda: checkpoint,
        save_checkpoint=kept.save,
        **more,
    )
    return fitted, kept


def arrays(checkpoint: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(checkpoint), allow_pickle=False) as saved:
        return {name: saved[name] for name in saved.files}


def equal(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("recurrent", "dropout"), [(False, 0.0), (False, 0.5), (True, 0.5)])
def test_a_resumed_training_goes_on_to_the_same_bits(keras: Any, recurrent: bool, dropout: float) -> None:
    whole, kept = train(Learner(keras, recurrent=recurrent, dropout=dropout), epochs=4)
    # Another seed of the weights: what the resumed one has, it has from the checkpoint.
    again = Learner(keras, recurrent=recurrent, dropout=dropout, seed=9)
    resumed, kept_again = train(again, epochs=4, checkpoint=kept.checkpoints[1])
    assert (whole.resumed_from, resumed.resumed_from, resumed.epochs_run) == (0, 2, 4)
    assert resumed.curves == whole.curves
    assert (resumed.best_epoch, resumed.validation) == (whole.best_epoch, whole.validation)
    assert equal(again.network.get_weights(), kept.learner.network.get_weights())
    # Optimizer, dropout's random states and best weights too.
    last, last_again = arrays(kept.checkpoints[3]), arrays(kept_again.checkpoints[1])
    assert last.keys() == last_again.keys()
    assert equal([last[name] for name in last if name != "state"], [last_again[name] for name in last if name != "state"])


def test_a_finished_training_resumes_to_its_best_epoch_without_a_step(keras: Any) -> None:
    first = Learner(keras, figures=[0.5, 0.2, 0.3])
    _, kept = train(first, epochs=3)
    again = Learner(keras, seed=9)
    fitted, kept_again = train(again, epochs=3, checkpoint=kept.checkpoints[2])
    assert kept_again.checkpoints == []
    assert (fitted.best_epoch, fitted.resumed_from) == (2, 3)
    assert equal(again.network.get_weights(), kept.weights[1])


def test_the_best_epoch_is_kept(keras: Any) -> None:
    learner = Learner(keras, figures=[0.5, 0.2, 0.3, 0.2])
    fitted, kept = train(learner, epochs=4)
    assert (fitted.best_epoch, fitted.epochs_run, fitted.validation) == (2, 4, {"val_loss": 0.2})
    assert fitted.curves["val_loss"] == [0.5, 0.2, 0.3, 0.2]
    assert equal(learner.network.get_weights(), kept.weights[1])
    assert not equal(learner.network.get_weights(), kept.weights[3])


@pytest.mark.parametrize(
    ("patience", "epochs_run"),
    [(1, 3), (2, 4), (3, 6)],  # the figure falls in epochs 2 and 5, and epoch 6 is the last
)
def test_training_stops_when_patience_is_at_its_end(keras: Any, patience: int, epochs_run: int) -> None:
    fitted, _ = train(Learner(keras, figures=[0.5, 0.2, 0.3, 0.2, 0.1, 0.4]), epochs=6, patience=patience)
    assert fitted.epochs_run == epochs_run
    assert fitted.best_epoch == (5 if epochs_run == 6 else 2)


def test_patience_counts_across_an_interruption(keras: Any) -> None:
    figures = [0.5, 0.2, 0.3, 0.3, 0.1]
    _, kept = train(Learner(keras, figures=figures), epochs=3)
    fitted, _ = train(Learner(keras, figures=figures), epochs=5, patience=2, checkpoint=kept.checkpoints[2])
    assert (fitted.epochs_run, fitted.best_epoch) == (4, 2)


def test_a_diverged_training_stops_and_leaves_the_last_sound_checkpoint(keras: Any) -> None:
    learner = Learner(keras, nan_from_epoch=1)
    kept = Kept(learner)
    with pytest.raises(DataError, match=r"training diverged: loss is nan in epoch 2, .* lower the learning rate"):
        fit(
            learner,
            budget=Budget(epochs=3, steps_per_epoch=None, patience_epochs=3),
            seed=0,
            is_better=is_better,
            save_checkpoint=kept.save,
        )
    assert len(kept.checkpoints) == 1
    assert all(np.isfinite(value).all() for value in arrays(kept.checkpoints[0]).values())


@pytest.mark.parametrize("figure", [float("nan"), float("inf")])
def test_a_validation_figure_that_is_no_number_is_refused(keras: Any, figure: float) -> None:
    with pytest.raises(DataError, match=f"val_loss is {figure} in epoch 1"):
        train(Learner(keras, figures=[figure, 0.1]), epochs=2)


def test_a_network_learns(keras: Any) -> None:
    fitted, _ = train(Learner(keras, rate=0.02), epochs=12)
    assert fitted.curves["loss"][-1] < 0.6 * fitted.curves["loss"][0]
    assert fitted.curves["val_loss"][-1] < 0.6 * fitted.curves["val_loss"][0]


def test_the_loss_of_an_epoch_is_the_mean_over_its_examples(keras: Any) -> None:
    learner = Learner(keras, rate=0.0)  # without a step the loss of each example is known: 2 batches of 16 and one of 6
    expected = np.mean(np.abs(learner.predict("train") - learner.truth[:, 0]))
    fitted, _ = train(learner, epochs=1)
    assert fitted.curves["loss"][0] == pytest.approx(float(expected), rel=1e-5)


def test_the_checkpoint_is_plain_arrays(keras: Any) -> None:
    _, kept = train(Learner(keras, dropout=0.5), epochs=1)
    saved = arrays(kept.checkpoints[0])  # raises where a pickle would be needed
    assert all(value.dtype != np.dtype(object) for value in saved.values())
    assert b"numpy._core.multiarray" not in kept.checkpoints[0]


def test_a_seed_fixes_the_weights(keras: Any) -> None:
    def weights(*, seed: int, order_seed: int) -> list[np.ndarray]:
        learner = Learner(keras, seed=seed, dropout=0.5)
        train(learner, epochs=2, seed=order_seed)
        return learner.network.get_weights()

    assert equal(weights(seed=3, order_seed=3), weights(seed=3, order_seed=3))
    assert not equal(weights(seed=3, order_seed=3), weights(seed=4, order_seed=3))
    assert not equal(weights(seed=3, order_seed=3), weights(seed=3, order_seed=4))


def test_progress_is_told_after_each_epoch(keras: Any) -> None:
    told: list[Progress] = []
    fitted, _ = train(Learner(keras), epochs=2, on_progress=told.append)
    ends = [progress for progress in told if progress.metrics]
    assert [(progress.epoch, progress.epochs, progress.share) for progress in ends] == [(1, 2, 0.5), (2, 2, 1.0)]
    assert ends[1].metrics == {name: curve[1] for name, curve in fitted.curves.items()}
    assert ends[1].remaining_s == 0.0
    assert ends[0].remaining_s is not None
    assert ends[0].remaining_s > 0


# --- exactly so many epochs


def refit(learner: Learner, *, exact_epochs: int, epochs: int = 8, checkpoint: bytes | None = None) -> tuple[Fitted, Kept]:
    def never(new: Mapping[str, float], old: Mapping[str, float]) -> bool:
        raise AssertionError("there are no validation rows")

    kept = Kept(learner)
    fitted = fit(
        learner,
        budget=Budget(epochs=epochs, steps_per_epoch=None, patience_epochs=1),
        seed=0,
        is_better=never,
        exact_epochs=exact_epochs,
        load_checkpoint=lambda: checkpoint,
        save_checkpoint=kept.save,
    )
    return fitted, kept


@pytest.mark.parametrize(
    "options", [{}, {"optimizer": averaged_adam, "schedule": cosine}], ids=["plain", "averages and schedule"]
)
def test_exact_epochs_follow_the_same_curve_up_to_the_best_epoch(keras: Any, options: dict[str, Any]) -> None:
    """On the same rows the weights are those of the best epoch, though the budget is longer and nothing is validated."""
    validated = Learner(keras, figures=[0.5, 0.4, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], **options)
    fitted, _ = train(validated, epochs=8)
    assert fitted.best_epoch == 3
    again = Learner(keras, **options)
    again.validation = lambda: pytest.fail("there are no validation rows")  # type: ignore[method-assign]
    refitted, kept = refit(again, exact_epochs=3)
    assert (refitted.best_epoch, refitted.epochs_run, refitted.validation) == (3, 3, {})
    assert refitted.curves == {"loss": fitted.curves["loss"][:3]}
    assert equal(again.network.get_weights(), validated.network.get_weights())

    resumed = Learner(keras, seed=9, **options)
    cut_off, _ = refit(resumed, exact_epochs=3, checkpoint=kept.checkpoints[0])
    assert (cut_off.resumed_from, cut_off.curves) == (1, refitted.curves)
    assert equal(resumed.network.get_weights(), again.network.get_weights())


def test_progress_of_exact_epochs_ends_at_the_last(keras: Any) -> None:
    told: list[Progress] = []
    budget = Budget(epochs=8, steps_per_epoch=None, patience_epochs=1)
    fit(Learner(keras), budget=budget, seed=0, is_better=is_better, exact_epochs=2, on_progress=told.append)
    ends = [(progress.epoch, progress.epochs, progress.share) for progress in told if progress.metrics]
    assert ends == [(1, 2, 0.5), (2, 2, 1.0)]


# --- what a variant may ask for


def test_the_rate_follows_the_share_of_the_budget_that_is_done(keras: Any) -> None:
    asked: list[float] = []

    def schedule(done: float) -> float:
        asked.append(done)
        return 0.0 if done >= 0.5 else 1.0

    learner = Learner(keras, schedule=schedule)
    _, kept = train(learner, epochs=2)
    assert asked == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])
    assert equal(kept.weights[0], kept.weights[1])  # nothing moves at a rate of 0
    assert float(learner.optimizer.learning_rate) == 0.0


def test_a_cosine_falls_from_one_to_a_fiftieth() -> None:
    assert [cosine(done) for done in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.51, 0.02])


def test_averages_of_the_weights_are_what_is_validated_and_kept(keras: Any) -> None:
    learner = Learner(keras, optimizer=averaged_adam)
    fitted, kept = train(learner, epochs=1)
    averages = [np.array(average) for average in learner.optimizer._model_variables_moving_average]
    assert equal(learner.network.get_weights(), averages)
    assert not equal(kept.weights[0], averages)  # training itself goes on from the weights
    assert fitted.validation["val_loss"] == learner.validation()["val_loss"]


def test_a_resumed_training_goes_on_with_its_averages_and_its_rate(keras: Any) -> None:
    options = {"optimizer": averaged_adam, "schedule": cosine}
    whole = Learner(keras, **options)
    fitted, kept = train(whole, epochs=3)
    resumed = Learner(keras, seed=9, **options)
    again, _ = train(resumed, epochs=3, checkpoint=kept.checkpoints[0])
    assert again.curves == fitted.curves
    assert equal(resumed.network.get_weights(), whole.network.get_weights())


def test_weights_are_prepared_once(keras: Any) -> None:
    prepared: list[Any] = []
    learner = Learner(keras, init_weights=prepared.append)
    _, kept = train(learner, epochs=1)
    assert prepared == [learner]
    train(Learner(keras, init_weights=prepared.append), epochs=2, checkpoint=kept.checkpoints[0])
    assert prepared == [learner]


def test_steps_are_put_together_by_model_and_size_as_many_as_fit() -> None:
    class Compiled:
        steps_per_execution = 2

    one, other = Compiled(), Compiled()

    def batch(model: Any, size: int) -> Batch:
        return Batch(model, np.zeros((size, 1), np.float32), np.zeros((size, 1), np.float32))

    given = [batch(one, 4), batch(one, 4), batch(one, 4), batch(other, 4), batch(other, 3)]
    assert list(group_batches(given)) == [given[:2], given[2:3], given[3:4], given[4:]]
    assert list(group_batches([])) == []


@pytest.mark.slow
def test_many_steps_in_one_call_are_the_same_steps(keras: Any) -> None:
    """Three batches of 16, 16 and 6: the first two go together, and the shorter one alone."""
    found = {}
    for steps_per_execution in (1, 5):
        learner = Learner(keras, recurrent=True, dropout=0.2)
        learner.network.compile(
            optimizer=learner.optimizer, loss="mae", jit_compile=True, steps_per_execution=steps_per_execution
        )
        groups = list(group_batches(learner.batches(seed=0, epoch=0, steps=None)[1]))
        assert [len(group) for group in groups] == ([1, 1, 1] if steps_per_execution == 1 else [2, 1])
        fitted = fit(learner, budget=Budget(2, None, 2), seed=0, is_better=lambda new, old: True)
        found[steps_per_execution] = (fitted.curves["loss"], learner.network.get_weights())
    np.testing.assert_allclose(found[5][0], found[1][0], rtol=1e-6)
    for ours, theirs in zip(found[5][1], found[1][1], strict=True):
        np.testing.assert_array_equal(ours, theirs)
