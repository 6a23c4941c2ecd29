"""The processes that flows run in: Prefect's server, process pools, and the service."""
