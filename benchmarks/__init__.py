"""Measurements that a person runs on a quiet machine; no test is timed."""
