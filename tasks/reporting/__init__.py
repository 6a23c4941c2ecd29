"""Reporting: the report of a run, its pictures, and the comparison with the tutorial."""
