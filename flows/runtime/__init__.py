"""The processes that flows run in: Prefect's server, pools of processes, the service."""
