"""Publishes tables as a run does, for the fixtures of all tests and for tests with a data set of their own."""

from __future__ import annotations

from storage.layout import Store
from storage.references import TableRef
from tasks.config import DataSettings
from tasks.ingestion import fetching, pipeline


def publish_sample(name: str, *, store: Store) -> TableRef:
    return publish(name, settings=DataSettings(data="sample"), store=store, mirror=None)


def publish(name: str, *, settings: DataSettings, store: Store, mirror: str | None) -> TableRef:
    raw = fetching.fetch_raw(name, settings=settings, store=store, mirror=mirror)
    parsed = pipeline.parse_raw(raw, store=store)
    validation = pipeline.validate_parsed(parsed, settings=settings, store=store)
    return pipeline.publish_parsed(parsed, validation=validation, store=store)
