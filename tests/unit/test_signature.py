"""The digest of a network: it sees whatever changes a training, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.models import PROBLEMS, variant_named
from tasks.models.optimizers import adamw, cosine
from tasks.models.signature import network_signature
from tasks.models.spec import Variant


def variant_of(network: Callable[[], Any], **changes: Any) -> Variant:
    return replace(Variant(name="small", summary="", network=network, epochs=1), **changes)


def small(keras: Any, *layers: Any) -> Callable[[], Any]:
    def network() -> Any:
        return keras.Sequential([keras.Input((9, 2)), *(make() for make in layers), keras.layers.Dense(1)], name="network")

    return network


def test_a_digest_is_the_same_however_many_networks_were_built_before(keras: Any) -> None:
    variant = variant_of(small(keras, lambda: keras.layers.Bidirectional(keras.layers.GRU(3))))
    first = network_signature(variant)
    keras.layers.GRU(3)  # moves the number in the names that Keras gives
    assert network_signature(variant) == first


def test_whatever_changes_the_network_or_its_training_changes_the_digest(keras: Any) -> None:
    layers = keras.layers
    variants = [
        variant_of(small(keras, lambda: layers.GRU(3))),
        variant_of(small(keras, lambda: layers.GRU(4))),
        variant_of(small(keras, lambda: layers.GRU(3, dropout=0.1))),
        variant_of(small(keras, lambda: layers.GRU(3, kernel_initializer="he_normal"))),
        variant_of(small(keras, lambda: layers.LSTM(3))),
        variant_of(small(keras, lambda: layers.GRU(3, return_sequences=True), lambda: layers.GRU(3))),
        variant_of(small(keras, lambda: layers.GRU(3)), optimizer=adamw),
        variant_of(small(keras, lambda: layers.GRU(3)), optimizer=lambda rate: keras.optimizers.RMSprop(rate, rho=0.8)),
        variant_of(small(keras, lambda: layers.GRU(3)), schedule=cosine),
        variant_of(small(keras, lambda: layers.GRU(3)), schedule=lambda done: 1.0 - done),
        variant_of(small(keras, lambda: layers.GRU(3)), init_weights=variant_named("gru_pooled", dataset="imdb").init_weights),
        variant_of(small(keras, lambda: layers.GRU(3)), crop_tokens=9),
    ]
    digests = [network_signature(variant).digest for variant in variants]
    assert len(set(digests)) == len(digests)


def test_words_and_settings_are_no_part_of_the_digest(keras: Any) -> None:
    variant = variant_of(small(keras, lambda: keras.layers.GRU(3)))
    same = replace(variant, summary="other words", epochs=9, batch_size=7, learning_rate=0.5, tutorial_best=0.1)
    # Budget, batch size and learning rate are settings, which the training key holds beside the digest.
    assert network_signature(same) == network_signature(variant)


def test_no_two_variants_of_a_data_set_are_the_same() -> None:
    for problem in PROBLEMS.values():
        digests = [network_signature(variant).digest for variant in problem.variants.values()]
        assert len(set(digests)) == len(digests)


def test_a_signature_is_cached_by_the_code_and_a_damaged_cache_is_made_again(
    keras: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    variant = variant_named("gru_baseline", dataset="jena")
    first = network_signature(variant)
    (cached,) = (tmp_path / "retrain" / "signatures").iterdir()
    text = cached.read_text()
    cached.write_text(text.replace(first.digest, "0" * 64))
    assert network_signature(variant).digest == "0" * 64  # it is read
    cached.write_text("no JSON")
    assert network_signature(variant) == first
    assert cached.read_text() == text
    monkeypatch.setattr("tasks.models.signature._code_digest", lambda: "other code")
    assert network_signature(variant) == first
    assert len(list((tmp_path / "retrain" / "signatures").glob("*.json"))) == 2
