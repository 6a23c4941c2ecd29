"""Publishes a sample as a run does, for the fixtures of all tests and for tests with a data set of their own."""

from __future__ import annotations

from storage.layout import Store
from storage.references import TableRef
from tasks.config import DataSettings
from tasks.ingestion import fetching, pipeline


def publish_sample(name: str, *, store: Store) -> TableRef:
    raw = fetching.fetch_raw(name, settings=DataSettings(data="sample"), store=store, mirror=None)
    parsed = pipeline.parse_raw(raw, store=store)
    validation = pipeline.validate_parsed(parsed, settings=DataSettings(), store=store)
    return pipeline.publish_parsed(parsed, validation=validation, store=store)
