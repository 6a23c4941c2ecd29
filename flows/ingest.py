"""The flow that turns a source into a published table."""

from prefect import flow

from flows.outcomes import told_plainly
from storage.references import TableRef
from tasks import ingestion
from tasks.config import DatasetName, DataSettings


@flow(name="ingest", flow_run_name="ingest {dataset}")
@told_plainly
def ingest(dataset: DatasetName, data: DataSettings = DataSettings()) -> TableRef:  # noqa: B008  (frozen)
    """Fetch, repair, validate and publish one data set; unchanged input publishes nothing.

    Args:
        dataset: Data set to ingest.
        data: Source of the data, and where it is fetched.
    """
    raw = ingestion.fetch(dataset, data)
    standing = ingestion.find_table(raw)
    if standing:
        return standing
    parsed = ingestion.parse(raw)
    validation = ingestion.validate(parsed)
    return ingestion.publish(parsed, validation)
