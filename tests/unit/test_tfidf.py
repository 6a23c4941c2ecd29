"""The bag of n-grams against scikit-learn's own tf-idf and regression on the same texts."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from learner_helpers import learner_with
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from tasks.models import PROBLEMS
from tasks.models.engine.shared_prefix import padded_model, padding_mode
from tasks.models.networks.tfidf import INVERSE_REGULARIZATION, MIN_REVIEWS, NOTHING, distinct_ngrams, fit_bag
from tasks.models.serialization import register_layers
from tasks.models.training_loop import fit_at_once

START, UNKNOWN, FIRST = 1, 2, 4
WIDTH = 40


def reviews_of(count: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Padded reviews of few words, unknown ones among them, whose label leans on word 4 and on the pair (5, 6)."""
    rng = np.random.default_rng(seed)
    reviews, labels = np.zeros((count, WIDTH), dtype=np.uint16), np.zeros(count, dtype=np.float32)
    for i, length in enumerate(rng.integers(3, WIDTH, count)):
        words = rng.choice([UNKNOWN, *range(FIRST, FIRST + 25)], length)
        labels[i] = float(FIRST in words or "5 6" in " ".join(map(str, words)))
        reviews[i, WIDTH - length - 1 :] = [START, *words]
    return reviews, labels


def words_and_pairs(review: str) -> list[str]:
    """The analyser that scikit-learn is given: known words, and pairs of known neighbours."""
    tokens = [int(token) for token in review.split()]
    known = [str(token) for token in tokens if token >= FIRST]
    pairs = itertools.pairwise(tokens)
    return known + [f"{a} {b}" for a, b in pairs if a >= FIRST and b >= FIRST]


def texts(reviews: np.ndarray) -> list[str]:
    return [" ".join(str(token) for token in review if token) for review in reviews]


@pytest.fixture(scope="module")
def solved(keras: Any) -> Any:
    reviews, labels = reviews_of(300, seed=0)
    learner = SimpleNamespace(reviews={"train": reviews}, labels={"train": labels}, network=None)
    fit_bag(learner)
    return learner


def test_ngrams_by_hand() -> None:
    # 7 stands twice, as a word and in two pairs; 2 is unknown and parts its neighbours; 0 is padding.
    numbers, first = distinct_ngrams(np, np.array([[0, 1, 7, 9, 2, 7, 7]], dtype=np.int32))
    assert numbers[0][first[0]].tolist() == [7, 9, 70_007, 70_009]
    assert (numbers[0] == NOTHING).sum() == 13 - 4 - 2  # 7 words and 6 pairs, less four n-grams and two more sevens


def test_it_is_scikit_learns_tfidf_and_regression(solved: Any) -> None:
    reviews, labels = reviews_of(300, seed=0)
    fresh, _ = reviews_of(100, seed=1)
    vectors = TfidfVectorizer(analyzer=words_and_pairs, binary=True, sublinear_tf=True, min_df=MIN_REVIEWS)
    table = vectors.fit_transform(texts(reviews))
    model = LogisticRegression(C=INVERSE_REGULARIZATION, solver="liblinear", random_state=0).fit(table, labels)
    assert solved.network.get_layer("bag").ngrams == len(vectors.vocabulary_)
    for given in (reviews, fresh):
        expected = model.predict_proba(vectors.transform(texts(given)))[:, 1]
        # liblinear stops at a tolerance of 1e-4, and the order of the columns decides where.
        np.testing.assert_allclose(np.asarray(solved.network(given.astype(np.int32)))[:, 0], expected, atol=2e-3)


def test_the_layer_is_the_formula(solved: Any) -> None:
    """tf-idf written out a review at a time, with the very weights of the layer."""
    bag = solved.network.get_layer("bag")
    numbers, idf, weight = (np.asarray(part) for part in (bag.numbers, bag.idf, bag.weight))
    fresh, _ = reviews_of(50, seed=2)
    said = np.asarray(solved.network(fresh.astype(np.int32)))[:, 0]
    for review, probability in zip(fresh.astype(int).tolist(), said, strict=True):
        pairs = [10_000 * a + b for a, b in itertools.pairwise(review) if a >= FIRST and b >= FIRST]
        there = np.isin(numbers, [*(token for token in review if token >= FIRST), *pairs])
        score = (idf * weight)[there].sum() / np.sqrt((idf[there] ** 2).sum()) + np.asarray(bag.bias)[0]
        assert probability == pytest.approx(1 / (1 + np.exp(-score)), abs=1e-5)


def test_a_review_without_a_known_word_gets_the_bias_alone(solved: Any) -> None:
    empty = np.array([[0, 0, START, UNKNOWN]], dtype=np.int32)
    bias = float(np.asarray(solved.network.get_layer("bag").bias)[0])
    assert float(np.asarray(solved.network(empty))[0, 0]) == pytest.approx(1 / (1 + np.exp(-bias)), abs=1e-6)


def test_padding_changes_nothing(solved: Any) -> None:
    reviews, _ = reviews_of(20, seed=3)
    wider = np.concatenate([np.zeros((20, 17), dtype=np.uint16), reviews], axis=1)
    narrow, wide = (np.asarray(solved.network(given.astype(np.int32))) for given in (reviews, wider))
    np.testing.assert_allclose(narrow, wide, atol=1e-6)
    assert padding_mode(solved.network) == "any"
    assert padded_model(solved.network, 57).output_shape == (None, 1)


def test_it_is_saved_and_loaded_without_a_pickle(keras: Any, solved: Any, tmp_path: Path) -> None:
    solved.network.save(tmp_path / "bag.keras")
    register_layers()
    loaded = keras.saving.load_model(tmp_path / "bag.keras", compile=False, safe_mode=True)
    reviews, _ = reviews_of(20, seed=4)
    given = reviews.astype(np.int32)
    np.testing.assert_array_equal(np.asarray(loaded(given)), np.asarray(solved.network(given)))


def test_the_learner_predicts_with_the_regression_that_was_put_into_it(keras: Any, tiny: Any) -> None:
    problem = PROBLEMS["imdb"]
    splits, normalisation = tiny("imdb")
    learner = learner_with(problem, splits, normalisation, variant=problem.variants["tfidf_logistic"])
    learner.predict("val")  # a model of the empty network is there already
    fitted = fit_at_once(learner, fit_closed_form=fit_bag)
    said = np.asarray(learner.network(learner.reviews["val"].astype(np.int32)))[:, 0]
    np.testing.assert_allclose(learner.predict("val"), said, atol=1e-6)
    assert np.ptp(said) > 0.01
    assert fitted.validation["val_accuracy"] == pytest.approx(((said > 0.5) == (learner.labels["val"] == 1)).mean())
