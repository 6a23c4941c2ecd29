"""The registry of problems: how each data set is learnt, with its variants. No Prefect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from storage.errors import unknown
from tasks.models import imdb, jena
from tasks.models.spec import Learner, Problem, Variant

if TYPE_CHECKING:
    from tasks.models.device import Device

PROBLEMS: dict[str, Problem] = {problem.dataset: problem for problem in (jena.PROBLEM, imdb.PROBLEM)}


def problem_named(dataset: str) -> Problem:
    """Return the problem of a data set.

    Raises:
        SettingError: There is no such data set.
    """
    if dataset not in PROBLEMS:
        raise unknown("data set", dataset, where="training", choices=PROBLEMS)
    return PROBLEMS[dataset]


def choose_variants(names: tuple[str, ...], *, dataset: str) -> tuple[str, ...]:
    """Return the named variants, each once, or the default variants of the data set where none is named.

    Raises:
        SettingError: There is no such data set or variant.
    """
    chosen = tuple(dict.fromkeys(names)) or problem_named(dataset).default_variants
    for name in chosen:
        variant_named(name, dataset=dataset)
    return chosen


def with_references(variants: tuple[str, ...], *, dataset: str) -> tuple[str, ...]:
    """Return the variants and the linear baselines of a data set, each once, the networks first: they take longest."""
    references = problem_named(dataset).references
    return (*(name for name in variants if name not in references), *references)


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
    dataset: str,
    variant: Variant,
    device: Device,
    seed: int,
) -> Learner:
    """Return a variant with new weights on the tables of its data set, built for a device.

    Raises:
        SettingError: The network cannot be trained as it is.
        DataError: The tables have too few rows.
    """
    from tasks.models.engine.accelerated import accelerate_for_training
    from tasks.models.engine.train_step import mirrored_scope

    with mirrored_scope(device):
        accelerated = accelerate_for_training(variant, device=device, seed=seed)
        return problem_named(dataset).learner(splits, normalisation, variant, accelerated)
