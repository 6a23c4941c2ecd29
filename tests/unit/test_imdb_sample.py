"""The simulated reviews: the same bytes each time, in the published layout, with something to learn in them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from storage.pickles import load_npz_arrays
from tasks.datasets.imdb.sample import REVIEWS_PER_PART, WORDS, simulate


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {path.name: path for path in simulate(tmp_path_factory.mktemp("sample"))}


@pytest.fixture(scope="module")
def arrays(sample: dict[str, Path]) -> dict[str, np.ndarray]:
    return load_npz_arrays(sample["imdb.npz"], names=["x_train", "y_train", "x_test", "y_test"])


def test_it_is_the_same_each_time(sample: dict[str, Path], tmp_path: Path) -> None:
    again = simulate(tmp_path)
    assert [path.name for path in again] == ["imdb.npz", "imdb_word_index.json"]
    for path in again:
        assert path.read_bytes() == sample[path.name].read_bytes()


def test_no_stamp_of_today_is_in_it(sample: dict[str, Path]) -> None:
    with zipfile.ZipFile(sample["imdb.npz"]) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("part", ["train", "test"])
def test_parts_are_balanced_and_some_reviews_are_long(arrays: dict[str, np.ndarray], part: str) -> None:
    lengths = np.array([len(review) for review in arrays[f"x_{part}"]])
    assert len(lengths) == len(arrays[f"y_{part}"]) == REVIEWS_PER_PART
    assert arrays[f"y_{part}"].sum() == REVIEWS_PER_PART // 2
    assert 80 <= np.median(lengths) <= 170
    assert (lengths > 500).sum() > 10
    assert lengths.min() >= 10


def test_ranks_are_counted_in_the_training_part(sample: dict[str, Path], arrays: dict[str, np.ndarray]) -> None:
    words = json.loads(sample["imdb_word_index.json"].read_text(encoding="utf-8"))
    assert sorted(words.values()) == list(range(1, WORDS + 1))
    assert all(word.isascii() and word.islower() and word.isalpha() for word in words)
    counts = np.bincount(np.concatenate([np.array(review) for review in arrays["x_train"]]), minlength=WORDS + 1)[1:]
    assert (np.diff(counts) <= 0).all()


def test_sentiment_words_lean_towards_the_label(sample: dict[str, Path], arrays: dict[str, np.ndarray]) -> None:
    words = json.loads(sample["imdb_word_index.json"].read_text(encoding="utf-8"))
    good = np.array([review.count(words["wonderful"]) for review in arrays["x_train"]])
    is_positive = arrays["y_train"] == 1
    assert good[is_positive].mean() > 2 * good[~is_positive].mean() > 0
