"""Ingestion: from a source to a validated, published table."""
