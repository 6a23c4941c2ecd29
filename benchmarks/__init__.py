"""Measurements that a person runs on a quiet machine, beside what else could be used; no test is timed."""
