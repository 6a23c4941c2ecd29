"""Texts as lists of numbers, as Keras publishes its reviews: ranks of words behind three numbers that are no word.

Ingestion writes them, networks read them, and the engine knows the number of padding.
"""

from __future__ import annotations

from collections.abc import Mapping

VOCABULARY_SIZE = 10_000
REVIEW_TOKENS = 500
PADDING = 0
START = 1
UNKNOWN = 2
RANK_OFFSET = 3

# What the Keras tokenizer turns into spaces: punctuation without the apostrophe, tab and newline.
_FILTERED = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
_CLEANED = str.maketrans(
    {**dict.fromkeys(_FILTERED, " "), **{chr(upper): chr(upper + 32) for upper in range(ord("A"), ord("Z") + 1)}}
)


def encode_text(text: str, *, words: Mapping[str, int]) -> list[int]:
    """Return the tokens of a review in plain text: the reference that the exported model must agree with.

    Args:
        text: Any text. Only the letters A to Z are made small, as in the original data.
        words: Rank by word, 1 the most frequent.

    Returns:
        At most `REVIEW_TOKENS` tokens, the last ones; the start token is lost with what comes off in front. No padding.
    """
    ranks = [words.get(word) for word in text.translate(_CLEANED).split(" ") if word]
    tokens = [UNKNOWN if rank is None or rank + RANK_OFFSET >= VOCABULARY_SIZE else rank + RANK_OFFSET for rank in ranks]
    return [START, *tokens][-REVIEW_TOKENS:]
