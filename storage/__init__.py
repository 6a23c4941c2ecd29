"""Bytes, paths and versions: knows no data set, no model and no Prefect."""
