"""Remove what is old and what nothing refers to, from store, registry and Prefect."""
