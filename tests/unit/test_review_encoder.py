"""The encoder inside the exported model against the reference in plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.datasets.imdb.text import APOSTROPHES, SPACES, encode_text
from tasks.datasets.tokens import REVIEW_TOKENS
from tasks.models.networks.review_encoder import encoder_class, review_encoder
from tasks.models.serialization import register_layers

COMMON = ("the", "film", "is", "good", "it's", "é", "éÉ", "straße", "co-op", "\x96", "日本", "a", "b", "i", "br", "bad\x85")
# Ranks from 9,997 on are past the vocabulary.
WORDS = (*COMMON, *(f"common {rank}" for rank in range(len(COMMON) + 1, 9_997)), "rare", "seldom")
RANKS = {word: rank for rank, word in enumerate(WORDS, start=1)}

TEXTS = st.one_of(
    st.text(max_size=60),
    st.text(alphabet=st.sampled_from(SPACES + APOSTROPHES + " '\x00\x1c\x85\x92\x96\u200b\ufeffAaÉé́İıſK"), max_size=40),
    st.lists(st.sampled_from([*COMMON, "THE", "Film", "rare", "Seldom", "unlisted", "", *SPACES]), max_size=30).map(" ".join),
    st.lists(st.sampled_from(["the", "it", "s", "rare", *SPACES, *APOSTROPHES]), max_size=30).map("".join),
    st.integers(480, 560).flatmap(
        lambda n: st.permutations(["the", "Film,", "rare", "é"]).map(lambda words: " ".join(words * (n // 4)))
    ),
)


@pytest.fixture(scope="module")
def encoder(keras: Any) -> Any:
    return review_encoder(WORDS, spaces=SPACES, apostrophes=APOSTROPHES)


@pytest.fixture(scope="module")
def traced(encoder: Any) -> Any:
    """The encoder as a graph, which is how a model runs it."""
    import tensorflow as tf

    return tf.function(encoder, input_signature=[tf.TensorSpec((None, 1), tf.string)])


def encoded(encoder: Any, texts: list[str]) -> np.ndarray:
    import tensorflow as tf

    return np.asarray(encoder(tf.constant([[text] for text in texts])))


def padded(text: str) -> list[int]:
    tokens = encode_text(text, words=RANKS)
    return [0] * (REVIEW_TOKENS - len(tokens)) + tokens


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
def test_text_is_encoded_as_the_reference_says(traced: Any, texts: list[str]) -> None:
    result = encoded(traced, texts)
    assert result.dtype == np.int32
    assert result.tolist() == [padded(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", [1]),
        ("   ", [1]),
        ("The FILM, is (good)!", [1, 4, 5, 6, 7]),
        ("it's", [1, 8]),  # the apostrophe is no filter character
        ("É é ÉÉ", [1, 9]),  # only A to Z are made small
        ("co-op the\tfilm\nis", [1, 4, 5, 6]),  # a word with a filter character is never found
        ("the rare unlisted Seldom film", [1, 4, 2, 2, 5]),  # a word that is in no index is left out
        ("the\rfilm\r\nis\u00a0good", [1, 4, 5, 6, 7]),
        ("It\u2019s \u201cgood\u201d\u2026", [1, 8, 7]),
        ("good<br /><br />\x96 bad\x85", [1, 7, 18, 18, 13, 19]),  # the index has the tag, and the control characters
    ],
)
def test_texts_encoded_by_hand(encoder: Any, text: str, tokens: list[int]) -> None:
    assert encoded(encoder, [text])[0].tolist() == [0] * (REVIEW_TOKENS - len(tokens)) + tokens


def test_of_a_long_text_the_last_tokens_are_kept(encoder: Any) -> None:
    at_most = " ".join(["film"] * (REVIEW_TOKENS - 1))
    assert encoded(encoder, [at_most])[0].tolist() == [1] + [5] * (REVIEW_TOKENS - 1)
    longer = "film " * 3 + " ".join(["the"] * REVIEW_TOKENS)
    assert encoded(encoder, [longer])[0].tolist() == [4] * REVIEW_TOKENS  # the start token is lost with the first words


def test_the_encoder_comes_back_from_its_configuration(keras: Any, encoder: Any) -> None:
    config = keras.saving.serialize_keras_object(encoder)
    assert config["registered_name"] == "retrain>ReviewEncoder"
    register_layers()  # as before every load: a model that MLflow loaded in this process has registered its own copy
    again = keras.saving.deserialize_keras_object(config, safe_mode=True)
    assert isinstance(again, encoder_class())
    assert (again.words, again.spaces, again.apostrophes) == (WORDS, SPACES, APOSTROPHES)
    assert encoded(again, ["the film"]).tolist() == encoded(encoder, ["the film"]).tolist()


def test_an_encoder_of_before_keeps_its_rule(keras: Any) -> None:
    """A model that was exported with the words of the vocabulary alone reads any other word as unknown."""
    config = {"words": ["the", "film"], "name": "encode"}
    before = encoder_class().from_config(config)
    assert encoded(before, ["The film\u00a0odd"])[0].tolist()[-3:] == [1, 4, 2]
    assert encoded(before, ["the\tfilm odd"])[0].tolist()[-4:] == [1, 4, 5, 2]
