"""Gather what refers to things in a store, plan what can go, and remove it: all but the runs of Prefect, which `steps` knows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import pyarrow.compute as pc

from storage.layout import Store
from storage.registry import Registry
from storage.registry_cleanup import Leftover, RegistryCleanup
from storage.tables import read_table
from tasks.promotion.log import read_log
from tasks.retention.needed import Waiting, needed_keys
from tasks.retention.plan import Item, Known, dataset_of_model, old_versions, store_items, tables_of
from tasks.retention.remove import remove_item
from tasks.retention.settings import RetentionSettings

ASK_AGAIN_S = 5.0
BEHIND_A_SERVER = (
    "MLflow is behind a server: what goes there is marked as deleted; rows and files go when retrain gc runs with its database"
)


@dataclass(frozen=True)
class StorePlan:
    """What can go of a store and its registry.

    Attributes:
        items: Files of the store, and trainings of MLflow.
        trainings: The trainings by the id of their run, which the items name.
        notes: What a person should know of it.
    """

    items: tuple[Item, ...]
    trainings: dict[str, Leftover]
    notes: tuple[str, ...] = ()


def known_of(*, registry: Registry, store: Store, waiting: Waiting) -> Known:
    """Return what refers to things in a store."""
    names = registry.names()
    return Known(
        versions=tuple(version for name in names for version in registry.versions(name)),
        lines={name: read_log(name, registry=registry, store=store) for name in names},
        issued={name: issued_versions(name, store=store) for name in names},
        waiting=waiting,
    )


def issued_versions(model: str, *, store: Store) -> frozenset[int]:
    """Return the versions of a model that issued predictions."""
    folder = store.predictions_folder(model)
    paths = sorted(folder.glob("*/*.parquet"), key=str) if folder.is_dir() else []
    numbers = (pc.unique(read_table(path, columns=["model_version"])["model_version"]).to_pylist() for path in paths)
    return frozenset(int(number) for each in numbers for number in each)


def plan_store(*, settings: RetentionSettings, registry: Registry, store: Store, waiting: Waiting, now: datetime) -> StorePlan:
    """Return what can go of a store and its registry; nothing is removed."""
    known = known_of(registry=registry, store=store, waiting=waiting)
    tables = tables_of(store)
    gone = old_versions(known, tables=tables, settings=settings, now=now)
    cleanup = RegistryCleanup.of(registry, store=store)
    trainings = list(_leftovers(registry.names(), cleanup=cleanup, waiting=waiting, settings=settings, now=now))
    items = [_training_item(leftover, kind="MLflow run") for leftover in trainings]
    for name in sorted({version.name for version in gone}):
        own = cleanup.trainings_of(
            [version for version in gone if version.name == name], reason="older than the newest, and nothing refers to it"
        )
        trainings += own
        items += [_training_item(leftover, kind="model version") for leftover in own]
    items += store_items(store, known=known, gone=gone, tables=tables, settings=settings, now=now)
    return StorePlan(
        items=tuple(items),
        trainings={leftover.run_id: leftover for leftover in trainings},
        notes=() if cleanup.forgets else (BEHIND_A_SERVER,),
    )


def _leftovers(
    names: Iterable[str], *, cleanup: RegistryCleanup, waiting: Waiting, settings: RetentionSettings, now: datetime
) -> Iterable[Leftover]:
    for name in names:
        if dataset_of_model(name) not in waiting.datasets:
            yield from cleanup.leftovers(
                name,
                failed_before=now - timedelta(days=settings.leftover_days),
                old_before=now - timedelta(days=settings.older_than_days),
            )


def _training_item(leftover: Leftover, *, kind: Literal["model version", "MLflow run"]) -> Item:
    versions = ", ".join(f"@{number}" for number in leftover.numbers)
    name = f"{leftover.model}{versions}" if versions else f"{leftover.model} {leftover.run_name}"
    dataset = dataset_of_model(leftover.model)
    return Item(kind, name, leftover.run_id, leftover.size_bytes, leftover.reason, dataset=dataset)


def runs_of_champions(registry: Registry) -> frozenset[str]:
    """Return the runs of Prefect that made a version with an alias, or its twin, by their ids."""
    versions = [version for name in registry.names() for version in registry.versions(name)]
    keys = needed_keys(versions)
    return frozenset(version.tags.get("flow_run_id", "") for version in versions if version.tags.get("training_key") in keys)


def carry_out(
    plan: StorePlan,
    *,
    registry: Registry,
    store: Store,
    ask_waiting: Callable[[], Waiting],
    clock_s: Callable[[], float] = time.monotonic,
) -> tuple[Item, ...]:
    """Remove the items of a plan and return those that were removed.

    Trainings go first: who is cut off leaves files that no version names, and never a version without its files. A run may have
    started since the plan was made, so it is asked again while the removal goes on, and what the run works with stays.

    Args:
        plan: What can go.
        registry: The registry.
        store: The store.
        ask_waiting: Returns what waiting and running flows need now.
        clock_s: Seconds of a clock that only rises.
    """
    cleanup = RegistryCleanup.of(registry, store=store)
    removed = []
    waiting, asked_s = ask_waiting(), clock_s()
    for item in plan.items:
        if clock_s() - asked_s > ASK_AGAIN_S:
            waiting, asked_s = ask_waiting(), clock_s()
        if item.dataset in waiting.datasets or item.version in waiting.words:
            continue
        if item.uri in plan.trainings:
            cleanup.remove(plan.trainings[item.uri])
        else:
            remove_item(item, store=store)
        removed.append(item)
    return tuple(removed)
