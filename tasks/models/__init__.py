"""The registry of problems: how each data set is learnt, with its variants. No Prefect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from storage.errors import unknown
from tasks.config import ForecastSettings
from tasks.datasets import DATASETS
from tasks.models.spec import Learner, Problem, Variant, restored
from tasks.models.windows import forecast_problem

if TYPE_CHECKING:
    import keras

    from tasks.models.device import Device


def _problem(dataset: str) -> Problem:
    """Return the problem that belongs to a data set by its name.

    A forecast of a time series needs no more than the `FORECAST` beside its networks; any other problem is the `PROBLEM` of
    `tasks/models/<name>.py`.
    """
    networks = import_module(f"tasks.models.networks.{dataset}")
    if hasattr(networks, "FORECAST"):
        return forecast_problem(networks.FORECAST)
    problem: Problem = import_module(f"tasks.models.{dataset}").PROBLEM
    return problem


PROBLEMS: dict[str, Problem] = {dataset: _problem(dataset) for dataset in DATASETS}

if TYPE_CHECKING:
    VariantName = str
else:  # the form in the UI offers the names of the registry
    VariantName = Literal[tuple(dict.fromkeys(name for problem in PROBLEMS.values() for name in problem.variants))]


def problem_named(dataset: str, *, forecast: ForecastSettings | None = None) -> Problem:
    """Return the problem of a data set, asked what a person set.

    Raises:
        SettingError: There is no such data set, or it cannot be asked that.
    """
    if dataset not in PROBLEMS:
        raise unknown("data set", dataset, where="training", choices=PROBLEMS)
    problem = PROBLEMS[dataset]
    changes = forecast.changes() if forecast else {}
    return problem.with_task(changes) if changes else problem


def choose_variants(names: tuple[str, ...], *, dataset: str, forecast: ForecastSettings | None = None) -> tuple[str, ...]:
    """Return the named variants, each once, or the default variants of the data set where none is named.

    Raises:
        SettingError: There is no such data set or variant, or the data set cannot be asked what a person set.
    """
    problem = problem_named(dataset, forecast=forecast)  # refused here, whichever variants are named
    variants = tuple(dict.fromkeys(names)) or problem.default_variants
    for name in variants:
        variant_named(name, dataset=dataset)
    return variants


def with_baselines(variants: tuple[str, ...], *, dataset: str) -> tuple[str, ...]:
    """Return the variants and the linear baselines of a data set, each once, the networks first: they take longest."""
    baselines = problem_named(dataset).baselines
    return (*(name for name in variants if name not in baselines), *baselines)


def variant_named(name: str, *, dataset: str) -> Variant:
    """Return one variant of a data set.

    Raises:
        SettingError: There is no such data set or variant.
    """
    variants = problem_named(dataset).variants
    if name not in variants:
        raise unknown("variant", name, where=dataset, choices=variants)
    return variants[name]


def build_learner(
    splits: Mapping[str, pa.Table],
    *,
    normalisation: Mapping[str, Any],
    problem: Problem,
    variant: Variant,
    device: Device,
    seed: int,
) -> Learner:
    """Return a variant with new weights on the tables of its problem's data set, built for a device.

    Raises:
        SettingError: The network cannot be trained as it is.
        DataError: The tables have too few rows.
    """
    from tasks.models.engine.accelerated import accelerate_for_training
    from tasks.models.engine.train_step import mirrored_scope

    with mirrored_scope(device):
        accelerated = accelerate_for_training(variant, device=device, seed=seed)
        return problem.learner(splits, normalisation, variant, accelerated)


def learner_of_network(
    network: keras.Model, *, splits: Mapping[str, pa.Table], normalisation: Mapping[str, Any], problem: Problem
) -> Learner:
    """Return a network that a person has built and trained, on the tables of a problem; it shares its weights.

    Raises:
        SettingError: The network makes masks, or returns something else than one value an example.
        DataError: The tables have too few rows.
    """
    import keras

    from tasks.models.engine.accelerated import accelerate_for_scoring, refuse_masks

    refuse_masks(network, variant=network.name)
    # A learner, and whoever loads the exported model, finds the network by this name.
    named = network if network.name == "network" else keras.Model(network.inputs[0], network.outputs[0], name="network")
    variant = replace(restored(named), name=network.name)
    return problem.learner(splits, normalisation, variant, accelerate_for_scoring(named, variant=variant))
