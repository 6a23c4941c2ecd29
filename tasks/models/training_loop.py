"""The training loop: epochs that can be repeated, the best one kept, and a checkpoint after each."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from storage.errors import DataError
from tasks.models.engine.train_step import group_batches, train_steps
from tasks.models.spec import Budget, Learner

Curves = dict[str, list[float]]
REPORT_EVERY_S = 1.0


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        epoch: Epochs that are complete.
        share: Part of the whole budget that is done, 0 to 1.
        remaining_s: Seconds to the end of the budget at the pace so far.
        metrics: Metrics of the last complete epoch.
    """

    epoch: int
    epochs: int
    share: float
    remaining_s: float | None
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Fitted:
    """What a training leaves behind, beside the weights of its best epoch in the network.

    Attributes:
        curves: One value an epoch by metric: `loss`, `val_loss` and, for a classifier, `accuracy`, `val_accuracy`.
        best_epoch: Counted from 1; 0 where nothing was trained by epochs.
        validation: Metrics of the best epoch.
        seconds_per_epoch: Median over the epochs, validation included; the whole time where there are none.
        seconds: Of all epochs together, those before an interruption too.
        resumed_from: Epochs that came from a checkpoint of an earlier attempt.
    """

    curves: Curves
    best_epoch: int
    epochs_run: int
    validation: dict[str, float]
    seconds_per_epoch: float
    seconds: float
    resumed_from: int


@dataclass
class _State:
    """All that an epoch changes; what the checkpoint holds."""

    curves: Curves = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    best_epoch: int = 0
    best: dict[str, float] = field(default_factory=dict)
    best_weights: list[np.ndarray[Any, Any]] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """Epochs that are complete."""
        return len(self.seconds)


def fit(
    learner: Learner,
    *,
    budget: Budget,
    seed: int,
    is_better: Callable[[Mapping[str, float], Mapping[str, float]], bool],
    exact_epochs: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    load_checkpoint: Callable[[], bytes | None] = lambda: None,
    save_checkpoint: Callable[[bytes], None] = lambda _: None,
) -> Fitted:
    """Train a learner's network and leave the weights of its best epoch in it.

    An epoch's batches follow from (seed, epoch) and the checkpoint holds weights, optimizer and the random
    states of the dropout, so a training that was cut off goes on to the same result.

    With `exact_epochs` there are no validation rows: the training takes so many epochs and keeps the last. A schedule still sees
    the share of the whole budget, so that its learning rate is that of the same epoch of a training that validates.

    Raises:
        DataError: The loss is no number any more.
    """
    state = _State()
    saved = load_checkpoint()
    if saved is not None:
        state = _restore(learner, saved=saved)
    elif learner.variant.init_weights:
        learner.variant.init_weights(learner)
    resumed_from = state.epoch
    epochs = exact_epochs or budget.epochs
    while state.epoch < epochs and state.epoch - state.best_epoch < budget.patience_epochs:
        started = time.perf_counter()
        report = _reporter(state, epochs=epochs, on_progress=on_progress)
        metrics = _run_epoch(learner, seed=seed, epoch=state.epoch, budget=budget, report=report)
        with _averaged(learner):
            metrics |= learner.validation() if exact_epochs is None else {}
            weights = [np.array(value) for value in learner.network.get_weights()]
        _refuse_nan(metrics, epoch=state.epoch + 1)
        for name, value in metrics.items():
            state.curves.setdefault(name, []).append(value)
        state.seconds.append(time.perf_counter() - started)
        if exact_epochs or not state.best or is_better(metrics, state.best):
            state.best_epoch, state.best = state.epoch, metrics
            state.best_weights = weights
        save_checkpoint(_snapshot(learner, state=state))
        report(0.0, metrics)
    learner.network.set_weights(state.best_weights)
    return Fitted(
        curves=state.curves,
        best_epoch=state.best_epoch,
        epochs_run=state.epoch,
        validation={name: value for name, value in state.best.items() if name.startswith("val_")},
        seconds_per_epoch=float(np.median(state.seconds)),
        seconds=float(np.sum(state.seconds)),
        resumed_from=resumed_from,
    )


def fit_at_once(learner: Learner, *, fit_closed_form: Callable[[Any], None], validate: bool = True) -> Fitted:
    """Fit a linear baseline in closed form; it has a time, validation metrics if there are rows for them, and no epochs."""
    started = time.perf_counter()
    fit_closed_form(learner)
    validation = learner.validation() if validate else {}
    seconds = time.perf_counter() - started
    return Fitted(
        curves={},
        best_epoch=0,
        epochs_run=0,
        validation=validation,
        seconds_per_epoch=seconds,
        seconds=seconds,
        resumed_from=0,
    )


def _run_epoch(
    learner: Learner, *, seed: int, epoch: int, budget: Budget, report: Callable[[float, Mapping[str, float]], None]
) -> dict[str, float]:
    """Take every step of one epoch; the metrics are means over its examples."""
    total, batches = learner.batches(seed=seed, epoch=epoch, steps=budget.steps_per_epoch)
    schedule = learner.variant.schedule
    sums: dict[str, float] = {}
    examples = 0
    reported = time.perf_counter()
    step = 0
    for group in group_batches(batches):
        size = sum(len(batch.inputs) for batch in group)
        if schedule:  # such a variant takes its steps one by one
            done = (epoch + step / total) / budget.epochs
            learner.optimizer.learning_rate = learner.variant.learning_rate * schedule(done)
        for name, value in train_steps(group).items():
            sums[name] = sums.get(name, 0.0) + float(value) * size
        step += len(group)
        examples += size
        if time.perf_counter() - reported > REPORT_EVERY_S:
            reported = time.perf_counter()
            report(step / total, {})
    return {name: total_value / examples for name, total_value in sums.items()}


@contextmanager
def _averaged(learner: Learner) -> Iterator[None]:
    """Put the averages that an optimizer keeps in the place of the weights while the block runs, if it keeps any."""
    if not learner.optimizer.use_ema:
        yield
        return
    variables = learner.network.trainable_variables
    before = [np.array(variable.value) for variable in variables]
    learner.optimizer.finalize_variable_values(variables)
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)


def _reporter(
    state: _State, *, epochs: int, on_progress: Callable[[Progress], None]
) -> Callable[[float, Mapping[str, float]], None]:
    started = time.perf_counter()
    epoch_before = state.epoch

    def report(share_of_epoch: float, metrics: Mapping[str, float]) -> None:
        done = state.epoch + share_of_epoch
        done_now = done - epoch_before
        pace = float(np.median(state.seconds)) if state.seconds else None
        if pace is None and done_now:
            pace = (time.perf_counter() - started) / done_now
        remaining = None if pace is None else (epochs - done) * pace
        on_progress(Progress(epoch=state.epoch, epochs=epochs, share=done / epochs, remaining_s=remaining, metrics=dict(metrics)))

    return report


def _refuse_nan(metrics: Mapping[str, float], *, epoch: int) -> None:
    for name, value in metrics.items():
        if not np.isfinite(value):
            raise DataError(
                f"training diverged: {name} is {value} in epoch {epoch}, expected a finite number: lower the learning rate"
            )


def _variables(learner: Learner) -> list[Any]:
    """Every variable that a step changes: weights, random states of dropout, optimizer."""
    return [*learner.network.variables, *learner.optimizer.variables]


def _snapshot(learner: Learner, *, state: _State) -> bytes:
    """Pack the state of a training as an npz without any pickle."""
    import keras

    arrays = {f"variable_{i}": keras.ops.convert_to_numpy(v.value) for i, v in enumerate(_variables(learner))}
    arrays |= {f"best_{i}": value for i, value in enumerate(state.best_weights)}
    plain = {name: value for name, value in asdict(state).items() if name != "best_weights"}
    arrays["state"] = np.frombuffer(json.dumps(plain).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _restore(learner: Learner, *, saved: bytes) -> _State:
    """Put a snapshot back into a learner that was built alike."""
    with np.load(io.BytesIO(saved), allow_pickle=False) as arrays:
        for i, variable in enumerate(_variables(learner)):
            variable.assign(arrays[f"variable_{i}"])
        plain = json.loads(arrays["state"].tobytes().decode())
        count = sum(1 for name in arrays.files if name.startswith("best_"))
        return _State(**plain, best_weights=[arrays[f"best_{i}"] for i in range(count)])
