"""IMDB's batches against slow definitions, and the exported model on text against the trained one on tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from learner_helpers import PLAIN, learner_with

from tasks.datasets.imdb.text import encode_text
from tasks.datasets.spec import SPLITS
from tasks.models.engine.execution import Execution
from tasks.models.imdb import PROBLEM
from tasks.models.networks.word_vectors import log_ratio, word_vectors
from tasks.models.review_network import padded_tokens, width_batches

BASELINE, DROPOUT = PROBLEM.variants["gru_baseline"], PROBLEM.variants["gru_dropout"]
WORDS = tuple(f"w{rank}" for rank in range(1, 61))  # word `w7` has rank 7, so token 10
LENGTHS = (3, 20, 60, 79, 80, 81, 130, 150, 179, 250, 370, 499, 500, 500)

# --- padding


def slowly_padded(reviews: list[list[int]], width: int) -> list[list[int]]:
    return [[0] * (width - len(review[-width:])) + review[-width:] for review in reviews]


@given(
    reviews=st.lists(st.lists(st.integers(1, 9999), max_size=30), min_size=1, max_size=12),
    width=st.integers(1, 25),
    cut=st.integers(0, 11),
)
def test_padding_equals_a_slow_reference(reviews: list[list[int]], width: int, cut: int) -> None:
    column = pa.chunked_array([pa.array(reviews, type=pa.list_(pa.uint16()))])
    assert padded_tokens(column, width=width).tolist() == slowly_padded(reviews, width)
    in_two = pa.chunked_array([pa.array(part, type=pa.list_(pa.uint16())) for part in (reviews[:cut], reviews[cut:])])
    assert padded_tokens(in_two, width=width).tolist() == slowly_padded(reviews, width)
    start = min(cut, len(reviews) - 1)  # a slice keeps the offsets of the whole
    assert padded_tokens(column.slice(start), width=width).tolist() == slowly_padded(reviews[start:], width)


# --- batches of like width


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int, tuple[int, ...]]:
    lengths = draw(st.lists(st.integers(1, 60), min_size=1, max_size=80))
    widths = tuple(sorted(draw(st.sets(st.integers(1, 59), max_size=5)) | {draw(st.integers(40, 60))}))
    order = draw(st.permutations(range(len(lengths))))
    return np.array(lengths), np.array(order, dtype=np.int32), draw(st.integers(1, 9)), widths


@given(case=cases())
def test_width_batches_are_a_partition(case: Any) -> None:
    lengths, order, batch_size, widths = case
    batches = width_batches(lengths, order=order, batch_size=batch_size, widths=widths)
    assert sorted(review for _, ids in batches for review in ids.tolist()) == list(range(len(lengths)))
    assert sum(len(ids) != batch_size for _, ids in batches) <= 1
    assert all(1 <= len(ids) <= batch_size for _, ids in batches)
    place = {review: position for position, review in enumerate(order.tolist())}
    for width, ids in batches:
        assert width in widths
        assert all(min(lengths[review], widths[-1]) <= width for review in ids.tolist())
        # Within a batch, and from batch to batch, reviews stand as they stand in the order.
        assert [place[review] for review in ids.tolist()] == sorted(place[review] for review in ids.tolist())
    firsts = [min(place[review] for review in ids.tolist()) for _, ids in batches]
    assert firsts == sorted(firsts)


def test_width_batches_by_hand() -> None:
    lengths = np.array([9, 2, 3, 8, 1, 2, 9, 30])
    order = np.array([7, 1, 0, 2, 3, 4, 5, 6], dtype=np.int32)
    batches = width_batches(lengths, order=order, batch_size=3, widths=(3, 9, 20))
    # Up to 3 tokens: 1, 2, 4 and 5 are one batch and 5 goes up; up to 9: 0, 3, 5 are one and 6 goes up; then 7 and 6.
    assert [(width, ids.tolist()) for width, ids in batches] == [(20, [7, 6]), (3, [1, 2, 4]), (9, [0, 3, 5])]


# --- the learner


def tokens_of(lengths: tuple[int, ...], *, seed: int, words: int = len(WORDS)) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [[1, *rng.integers(4, words + 4, length - 1).tolist()] for length in lengths]


def tables(reviews: dict[str, list[list[int]]], words: tuple[str, ...] = WORDS) -> dict[str, pa.Table]:
    splits = {
        name: pa.table(
            {
                "tokens": pa.array(reviews[name], type=pa.list_(pa.uint16())),
                "label": pa.array([i % 3 == 0 for i in range(len(reviews[name]))]).cast(pa.int8()),
            }
        )
        for name in SPLITS
    }
    return splits | {"words": pa.table({"rank": list(range(1, len(words) + 1)), "word": list(words)})}


REVIEWS = {name: tokens_of(LENGTHS, seed=seed) for seed, name in enumerate(SPLITS)}


def learner_of(
    splits: dict[str, pa.Table], *, variant: Any = BASELINE, batch_size: int = 4, seed: int = 0, execution: Execution = PLAIN
) -> Any:
    """A learner whose weights are strong, so that each token matters to the prediction."""
    learner = learner_with(PROBLEM, splits, {}, variant=replace(variant, batch_size=batch_size), seed=seed, execution=execution)
    rng = np.random.default_rng(seed)
    learner.network.set_weights([rng.normal(0, 0.3, weight.shape) for weight in learner.network.get_weights()])
    return learner


def test_one_pass_takes_every_review_once(keras: Any) -> None:
    learner = learner_of(tables(REVIEWS))
    padded = slowly_padded(REVIEWS["train"], 500)
    count, batches = learner.batches(seed=1, epoch=0, steps=None)
    taken = list(batches)
    assert len(taken) == count == 4  # 14 reviews in fours
    seen = []
    for batch in taken:
        width = batch.inputs.shape[1]
        assert batch.model.input_shape == (None, width)
        for row, label in zip(batch.inputs.tolist(), batch.targets[:, 0], strict=True):
            review = padded.index([0] * (500 - width) + row)
            assert label == (review % 3 == 0)
            seen.append(review)
    assert sorted(seen) == list(range(14))
    assert len({batch.inputs.shape[1] for batch in taken}) > 1


def test_loops_need_fewer_programs_for_the_same_batches_and_predictions(keras: Any) -> None:
    plain = learner_of(tables(REVIEWS))
    looped = learner_of(tables(REVIEWS), execution=Execution(use_cudnn=False, jit_compile=True, skip_padding_steps=True))
    batches, same = (list(learner.batches(seed=1, epoch=0, steps=None)[1]) for learner in (plain, looped))
    assert {batch.inputs.shape[1] for batch in same} == {256, 500}
    for theirs, ours in zip(batches, same, strict=True):
        width = min(theirs.inputs.shape[1], ours.inputs.shape[1])
        np.testing.assert_array_equal(ours.inputs[:, -width:], theirs.inputs[:, -width:])
    np.testing.assert_allclose(looped.predict("test"), plain.predict("test"), atol=1e-5)


def test_batches_follow_from_seed_and_epoch(keras: Any) -> None:
    learner = learner_of(tables(REVIEWS))

    def drawn(*, seed: int, epoch: int) -> list[list[list[int]]]:
        return [batch.inputs.tolist() for batch in learner.batches(seed=seed, epoch=epoch, steps=None)[1]]

    assert drawn(seed=1, epoch=0) == drawn(seed=1, epoch=0)
    assert drawn(seed=1, epoch=0) != drawn(seed=1, epoch=1)
    assert drawn(seed=1, epoch=0) != drawn(seed=2, epoch=0)
    count, batches = learner.batches(seed=1, epoch=0, steps=2)
    assert (count, [batch.inputs.tolist() for batch in batches]) == (2, drawn(seed=1, epoch=0)[:2])


def uses_prefix(model: Any) -> bool:
    return any(layer.name.startswith("shared_prefix") for layer in model.layers)


def dropping(keras: Any, **options: float) -> Any:
    """A variant whose recurrent layer drops as told."""

    def network() -> Any:
        recurrent = keras.layers.GRU(3, **options)
        head = keras.layers.Dense(1, activation="sigmoid")
        embedding = keras.layers.Embedding(10_000, 2)
        return keras.Sequential([keras.Input((500,), dtype="int32"), embedding, recurrent, head], name="network")

    return replace(BASELINE, name="dropping", network=network)


@pytest.mark.parametrize("options", [{"dropout": 0.2}, {"recurrent_dropout": 0.2}, {"dropout": 0.2, "recurrent_dropout": 0.2}])
def test_training_with_dropout_never_shares_the_prefix(keras: Any, options: dict[str, float]) -> None:
    learner = learner_of(tables(REVIEWS), variant=dropping(keras, **options))
    taken = list(learner.batches(seed=0, epoch=0, steps=None)[1])
    assert not any(uses_prefix(batch.model) for batch in taken)
    assert {batch.inputs.shape[1] for batch in taken} == {500}


def test_dropout_of_a_variant_is_that_of_its_whole_review(keras: Any) -> None:
    taken = list(learner_of(tables(REVIEWS), variant=DROPOUT).batches(seed=0, epoch=0, steps=None)[1])
    assert {batch.inputs.shape[1] for batch in taken} == {500}
    assert not any(uses_prefix(batch.model) for batch in taken)


def test_training_without_dropout_shares_the_prefix(keras: Any) -> None:
    taken = list(learner_of(tables(REVIEWS)).batches(seed=0, epoch=0, steps=None)[1])
    assert all(uses_prefix(batch.model) == (batch.inputs.shape[1] < 500) for batch in taken)
    assert any(uses_prefix(batch.model) for batch in taken)


@pytest.mark.parametrize("variant", [v for v in PROBLEM.variants.values() if not v.is_baseline], ids=lambda variant: variant.name)
def test_predictions_are_those_of_the_whole_network(keras: Any, variant: Any) -> None:
    learner = learner_of(tables(REVIEWS), variant=variant)
    expected = np.asarray(learner.network.predict_on_batch(np.array(slowly_padded(REVIEWS["val"], 500))))[:, 0]
    np.testing.assert_allclose(learner.predict("val"), expected, rtol=1e-4, atol=1e-6)
    assert expected.std() > 0.02


def test_validation_by_hand(keras: Any) -> None:
    learner = learner_of(tables(REVIEWS))
    probability = learner.predict("val").astype(float)
    label = np.array([i % 3 == 0 for i in range(14)])
    chosen = np.where(label, probability, 1 - probability)
    figures = learner.validation()
    assert figures["val_loss"] == pytest.approx(-np.log(chosen).mean(), rel=1e-5)
    assert figures["val_accuracy"] == pytest.approx((chosen > 0.5).mean())


def test_the_exported_model_on_text_is_the_trained_one_on_tokens(keras: Any, tmp_path: Path) -> None:
    import tensorflow as tf

    learner = learner_of(tables(REVIEWS))
    learner.export().save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    texts = [" ".join(WORDS[token - 4] for token in review[1:]) for review in REVIEWS["test"]]
    ranks = {word: rank for rank, word in enumerate(WORDS, start=1)}
    assert [encode_text(text, words=ranks) for text in texts] == REVIEWS["test"]
    more = [texts[1].upper().replace(" ", " ...\u00a0") + " nevermet", texts[1] + " w7"]
    predicted = np.asarray(model(tf.constant([[text] for text in texts + more])))
    assert predicted.shape == (16, 1)
    np.testing.assert_allclose(predicted[:14, 0], learner.predict("test"), rtol=1e-4, atol=1e-6)
    assert predicted[:14].std() > 0.05
    # Punctuation, capitals and a word that is in no index say nothing, another word does.
    np.testing.assert_allclose(predicted[14], predicted[1], rtol=1e-5)
    assert abs(float(predicted[15, 0] - predicted[1, 0])) > 1e-4


def test_a_restored_model_predicts_the_same_on_a_vocabulary_of_another_order(keras: Any) -> None:
    learner = learner_of(tables(REVIEWS))
    order = np.random.default_rng(7).permutation(len(WORDS))
    todays_words = tuple(WORDS[i] for i in order)
    todays_token = {int(old) + 4: new + 4 for new, old in enumerate(order)}
    todays = {name: [[todays_token.get(token, token) for token in review] for review in REVIEWS[name]] for name in SPLITS}
    assert todays != REVIEWS
    restored = PROBLEM.restore(tables(todays, todays_words), {}, learner.export())
    for name in SPLITS:
        np.testing.assert_allclose(restored.predict(name), learner.predict(name), rtol=1e-4, atol=1e-6)
    # What the translation must be worth: without it the predictions are others.
    untranslated = learner_of(tables(todays, todays_words))
    assert np.abs(untranslated.predict("test") - learner.predict("test")).max() > 0.05


def test_a_word_that_the_restored_model_never_met_is_unknown_to_it(keras: Any) -> None:
    learner = learner_of(tables(REVIEWS))
    todays_words = (*WORDS[:-1], "new")  # token 63 is a word that came after the training
    restored = PROBLEM.restore(tables(REVIEWS, todays_words), {}, learner.export())
    unknown = {name: [[2 if token == 63 else token for token in review] for review in REVIEWS[name]] for name in SPLITS}
    assert unknown["test"] != REVIEWS["test"]
    expected = learner_of(tables(unknown)).predict("test")
    np.testing.assert_allclose(restored.predict("test"), expected, rtol=1e-4, atol=1e-6)


def test_the_examples_encode_to_the_tokens_that_were_predicted(keras: Any) -> None:
    """Also where every review has a word outside the vocabulary, which a text must bring back as unknown."""
    reviews = REVIEWS | {"test": [[*review[:-1], 2] for review in REVIEWS["test"]]}
    splits = tables(reviews)
    # Ranks 9,997 and 9,998 are past the vocabulary; of the first, no text can hold the word.
    rare = pa.table({"rank": [9_997, 9_998], "word": ["\u2013", "rare"]})
    learner = learner_of(splits | {"words": pa.concat_tables([splits["words"], rare])})
    predicted = learner.predict("test")
    ranks = {word: rank for rank, word in enumerate(WORDS, start=1)} | {"rare": 9_998}
    for asked, count in ((6, 6), (50, 14)):
        texts, outputs = PROBLEM.examples(learner, asked)
        assert texts.shape == (count, 1)
        assert [encode_text(str(text), words=ranks) for text in texts[:, 0]] == reviews["test"][:count]
        np.testing.assert_array_equal(outputs, predicted[:count])


def test_a_review_that_no_text_can_say_is_no_example(keras: Any) -> None:
    """A dash is a word of the published index, where it stands alone; in a text it is read as a space."""
    reviews = REVIEWS | {"test": [[1, 4, 5], [1, 63, 4], [1, 5, 4]]}
    learner = learner_of(tables(reviews, (*WORDS[:-1], "\u2013")))
    texts, outputs = PROBLEM.examples(learner, 3)
    assert texts.tolist() == [["w1 w2"], ["w2 w1"]]
    np.testing.assert_array_equal(outputs, learner.predict("test")[[0, 2]])


def test_the_naive_baseline_says_the_label_that_is_more_frequent_in_train(keras: Any) -> None:
    splits = tables(REVIEWS)
    learner = learner_of(splits)
    seen = PROBLEM.scored_split(learner)  # 5 of 14 are positive
    assert set(seen.naive.tolist()) == {0.0}
    assert seen.truth.tolist() == [float(i % 3 == 0) for i in range(14)]
    learner.labels["train"] = np.float32([1] * 8 + [0] * 6)
    assert set(PROBLEM.scored_split(learner).naive.tolist()) == {1.0}
    assert seen.scale == 1.0


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        ((0.9, 0.5), (0.8, 0.1), True),
        ((0.8, 0.1), (0.8, 0.2), True),
        ((0.8, 0.2), (0.8, 0.2), False),
        ((0.7, 0.1), (0.8, 0.9), False),
    ],
)
def test_accuracy_decides_and_then_the_loss(new: tuple[float, float], old: tuple[float, float], expected: bool) -> None:
    figures = [{"val_accuracy": accuracy, "val_loss": loss} for accuracy, loss in (new, old)]
    assert PROBLEM.is_better(figures[0], figures[1]) is expected


# --- the variants beyond the tutorial


def test_a_cropped_review_is_read_at_another_part_each_time(keras: Any) -> None:
    """Of the reviews of 370 tokens and more, training reads 256 in a row, and in another epoch 256 others."""
    variant = replace(PROBLEM.variants["gru_pooled"], crop_tokens=256)
    learner = learner_of(tables(REVIEWS), variant=variant)
    padded = slowly_padded(REVIEWS["train"], 500)
    starts: dict[int, set[int]] = {}
    for epoch in range(6):
        for batch in learner.batches(seed=0, epoch=epoch, steps=None)[1]:
            width = batch.inputs.shape[1]
            assert width <= 256
            for row in batch.inputs.tolist():
                places = [
                    (review, start)
                    for review, tokens in enumerate(padded)
                    for start in range(500 - width + 1)
                    if tokens[start : start + width] == row
                ]
                ((review, start),) = places if row[0] else [places[-1]]
                assert start >= 500 - max(width, LENGTHS[review])
                starts.setdefault(review, set()).add(start)
    assert set(starts) == set(range(len(LENGTHS)))
    assert all(starts[review] == {500 - 160} for review in range(8))  # short enough to be read whole
    assert all(len(starts[review]) > 2 for review in (10, 11, 12, 13))


def test_log_ratios_by_hand() -> None:
    # Word 4 stands in two positive reviews (twice in one), word 5 in a positive and a negative one, word 6 in a negative one.
    reviews = np.array([[0, 1, 4, 4], [1, 4, 5, 2], [0, 1, 5, 6]], dtype=np.uint16)
    ratio = log_ratio(reviews, label=np.array([1, 1, 0], dtype=np.float32))
    positive, negative = 10_000 + 3, 10_000 + 2  # add-one counts of all words: the start and the unknown token are none
    expected = [np.log(3 / positive) - np.log(1 / negative), np.log(2 / positive) - np.log(2 / negative)]
    assert ratio[4:6].tolist() == pytest.approx(expected)
    assert ratio[:3].tolist() == [0.0, 0.0, 0.0]
    assert ratio[6] < 0 < ratio[4]


def test_words_of_like_neighbourhoods_get_like_vectors() -> None:
    rng = np.random.default_rng(0)
    # Words 10 and 11 stand in for each other between 4 and 5, word 12 stands between 6 and 7.
    reviews = np.zeros((600, 500), dtype=np.uint16)
    for row in reviews:
        word = rng.integers(10, 13)
        around = (6, 7) if word == 12 else (4, 5)
        row[-21:] = [
            1,
            *(part for _ in range(4) for part in (around[0], word, around[1], rng.integers(20, 200), rng.integers(20, 200))),
        ]
    vectors = word_vectors(reviews, label=rng.integers(0, 2, 600).astype(np.float32))
    assert vectors.shape == (10_000, 96)
    assert vectors.dtype == np.float32

    def likeness(one: int, other: int) -> float:
        a, b = vectors[one, 1:], vectors[other, 1:]
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))

    assert likeness(10, 11) > 0.8
    assert likeness(10, 12) < 0.5
