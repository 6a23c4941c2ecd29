"""The flow `ingest`: it turns a source into a published table."""

from typing import cast

from prefect import flow

from flows.states import ingested_state, run_of_project
from storage.references import TableRef
from tasks.config import DatasetName, DataSettings
from tasks.ingestion import steps as ingestion_steps


@flow(name="ingest", flow_run_name="ingest {dataset}")
@run_of_project
def ingest(dataset: DatasetName, data: DataSettings = DataSettings()) -> TableRef:  # noqa: B008  (frozen)
    """Fetch, repair, validate and publish one data set. Unchanged input publishes nothing.

    Args:
        dataset: Data set to ingest.
        data: Source of the data, and where it is fetched.
    """
    raw = ingestion_steps.fetch(dataset, data)
    table = ingestion_steps.find_table(raw)
    if table is None:
        parsed = ingestion_steps.parse(raw)
        validation = ingestion_steps.validate(parsed, data)
        table = ingestion_steps.publish(parsed, validation)
    # Great Expectations is imported for the Data Docs alone, which nobody has to wait for.
    ingestion_steps.document(table)
    table = ingestion_steps.check_age(table, data)
    return cast("TableRef", ingested_state(table))
