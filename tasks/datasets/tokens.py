"""Texts as lists of numbers, as Keras publishes its reviews: ranks of words behind three numbers that are no word.

Ingestion writes them, networks read them, and the engine knows the number of padding.
"""

from __future__ import annotations

VOCABULARY_SIZE = 10_000
REVIEW_TOKENS = 500
PADDING = 0
START = 1
UNKNOWN = 2
RANK_OFFSET = 3
