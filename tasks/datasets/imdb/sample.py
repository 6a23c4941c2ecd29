"""A small simulation of the IMDB reviews, in files of the published layout: made here, no person wrote them.

Words follow Zipf's law, lengths are log-normal, and a share of each review is sentiment words that lean towards its label.
Some reviews lean the other way, as irony does, so that no model can be right about all of them.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np

REVIEWS_PER_PART = 2_000
WORDS = 6_000

_SEED = 20_110_624
_MEDIAN_TOKENS = 110
_LOG_SPREAD = 0.7
_SHORTEST_TOKENS = 10
_LONGEST_TOKENS = 1_500
# Strong enough for a GRU(32) to learn in the 52 steps of four epochs.
_SENTIMENT_SHARE = 0.25
_LEANING_SHARE = 0.85
_IRONIC_SHARE = 0.08
_POSITIVE = ("wonderful", "excellent", "superb", "brilliant", "perfect", "delightful")
_NEGATIVE = ("awful", "terrible", "boring", "waste", "worst", "dull")
_FREQUENT = (
    "the",
    "and",
    "a",
    "of",
    "to",
    "is",
    "it",
    "in",
    "i",
    "this",
    "that",
    "was",
    "as",
    "for",
    "with",
    "movie",
    "but",
    "film",
)
_ONSETS = ("b", "br", "c", "d", "f", "g", "gl", "l", "m", "n", "p", "pr", "r", "s", "st", "t", "tr", "v", "w", "z")
_VOWELS = ("a", "e", "i", "o", "u", "ai", "ea", "ou")
_CODAS = ("", "l", "m", "n", "r", "s", "t", "nd", "rk", "ss")
# The oldest stamp that a zip can hold: the same bytes on every day.
_ZIP_STAMP = (1980, 1, 1, 0, 0, 0)


def simulate(folder: Path) -> tuple[Path, ...]:
    """Write `imdb.npz` and `imdb_word_index.json`, the same bytes each time, and return their paths."""
    rng = np.random.default_rng(_SEED)
    words = _vocabulary(rng)
    parts = {part: _draw_part(rng) for part in ("train", "test")}
    # The word index counts the training part, so that rank 1 is the most frequent word of it.
    frequency = np.bincount(parts["train"][0], minlength=WORDS)
    by_frequency = np.argsort(-frequency, kind="stable")
    rank = np.empty(WORDS, dtype=np.int64)
    rank[by_frequency] = np.arange(1, WORDS + 1)
    arrays: dict[str, np.ndarray] = {}
    for part, (flat, lengths, labels) in parts.items():
        reviews = np.empty(len(lengths), dtype=object)
        for position, review in enumerate(np.split(rank[flat], np.cumsum(lengths)[:-1])):
            reviews[position] = review.tolist()
        arrays[f"x_{part}"], arrays[f"y_{part}"] = reviews, labels
    archive = _write_npz(folder / "imdb.npz", arrays)
    index = folder / "imdb_word_index.json"
    index.write_text(json.dumps({words[word]: int(rank[word]) for word in range(WORDS)}), encoding="utf-8")
    return archive, index


def _vocabulary(rng: np.random.Generator) -> list[str]:
    """Return different words: the frequent ones, the sentiment words, then made-up ones of two or three syllables."""
    words = dict.fromkeys([*_FREQUENT, *_POSITIVE, *_NEGATIVE])
    while len(words) < WORDS:
        onsets, vowels, codas = (rng.integers(0, len(kind), (WORDS, 3)).tolist() for kind in (_ONSETS, _VOWELS, _CODAS))
        syllables = rng.integers(2, 4, WORDS).tolist()
        for onset, vowel, coda, count in zip(onsets, vowels, codas, syllables, strict=True):
            words["".join(_ONSETS[onset[i]] + _VOWELS[vowel[i]] for i in range(count)) + _CODAS[coda[0]]] = None
            if len(words) == WORDS:
                break
    return list(words)


def _draw_part(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return word numbers of all reviews end to end, the length of each review, and its label."""
    labels = np.repeat([0, 1], REVIEWS_PER_PART // 2)
    rng.shuffle(labels)
    lengths = np.exp(rng.normal(np.log(_MEDIAN_TOKENS), _LOG_SPREAD, REVIEWS_PER_PART))
    lengths = lengths.clip(_SHORTEST_TOKENS, _LONGEST_TOKENS).astype(np.int64)
    n_tokens = int(lengths.sum())
    first_sentiment = len(_FREQUENT)
    first_plain = first_sentiment + len(_POSITIVE) + len(_NEGATIVE)
    plain = np.concatenate([np.arange(first_sentiment), np.arange(first_plain, WORDS)])
    weights = 1.0 / (np.arange(len(plain)) + 2.7)
    flat = plain[np.searchsorted(np.cumsum(weights / weights.sum())[:-1], rng.random(n_tokens))]
    leaning = np.where(rng.random(REVIEWS_PER_PART) < _IRONIC_SHARE, 1 - labels, labels)
    is_positive = np.where(rng.random(n_tokens) < _LEANING_SHARE, np.repeat(leaning, lengths), 1 - np.repeat(leaning, lengths))
    positive = first_sentiment + rng.integers(0, len(_POSITIVE), n_tokens)
    negative = first_sentiment + len(_POSITIVE) + rng.integers(0, len(_NEGATIVE), n_tokens)
    sentiment = np.where(is_positive == 1, positive, negative)
    return np.where(rng.random(n_tokens) < _SENTIMENT_SHARE, sentiment, flat), lengths, labels


def _write_npz(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    # Stored and not deflated: compressed bytes differ between versions of zlib.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            body = io.BytesIO()
            np.lib.format.write_array(body, array, allow_pickle=True)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _ZIP_STAMP), body.getvalue())
    return path
