"""The work of a run, one package a stage: plain functions, and a `steps.py` with the Prefect tasks around them."""
