"""Raw text to tokens inside the exported model, by the rule that the data set's word ranks were made with."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from tasks.datasets.tokens import PADDING, RANK_OFFSET, REVIEW_TOKENS, START, UNKNOWN, VOCABULARY_SIZE

if TYPE_CHECKING:
    import keras

# The rule of a model that says none of its own, because it was exported before there was one: what the Keras tokenizer filters.
KERAS_FILTER = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
_LEFT_OUT = -1


def review_encoder(words: tuple[str, ...], *, spaces: str, apostrophes: str) -> keras.layers.Layer:
    """Return the layer that turns text, string `(batch, 1)`, into int32 `(batch, 500)`.

    Args:
        words: The whole word index by rank: the first word has rank 1. Of those that are not in it nothing is read.
        spaces: The characters that part words.
        apostrophes: The characters that are read as an apostrophe.
    """
    return encoder_class()(words=words, spaces=spaces, apostrophes=apostrophes, other_words="left out", name="encode")


def _one_of(characters: str) -> str:
    """Return a regular expression, in RE2's syntax, of one of the characters."""
    return "[" + "".join(rf"\x{{{ord(character):x}}}" for character in characters) + "]"


@cache
def encoder_class() -> Any:
    """Register the encoder with Keras, which a saved model needs before it can be loaded."""
    import keras
    import tensorflow as tf

    @keras.saving.register_keras_serializable(package="retrain")
    class ReviewEncoder(keras.layers.Layer):  # type: ignore[misc]
        """Text to tokens; strings live on the host, so this layer is TensorFlow's whatever the backend.

        The defaults are the rule of models that were exported with the words of the vocabulary alone.
        """

        def __init__(
            self,
            words: tuple[str, ...],
            *,
            spaces: str = KERAS_FILTER,
            apostrophes: str = "",
            other_words: str = "unknown",
            **options: Any,
        ) -> None:
            super().__init__(**options)
            self.words = tuple(words)
            self.spaces, self.apostrophes, self.other_words = spaces, apostrophes, other_words
            tokens = tf.range(1, len(self.words) + 1, dtype=tf.int32) + RANK_OFFSET
            tokens = tf.where(tokens < VOCABULARY_SIZE, tokens, UNKNOWN)
            entries = tf.lookup.KeyValueTensorInitializer(tf.constant(self.words), tokens)
            self.table = tf.lookup.StaticHashTable(entries, UNKNOWN if other_words == "unknown" else _LEFT_OUT)

        def call(self, text: Any) -> Any:
            # An empty encoding makes `lower` touch ASCII letters only, as the words were when their ranks were made.
            plain = tf.strings.lower(tf.reshape(text, [-1]), encoding="")
            if self.apostrophes:
                plain = tf.strings.regex_replace(plain, _one_of(self.apostrophes), "'")
            words = tf.strings.split(tf.strings.regex_replace(plain, _one_of(self.spaces), " "), sep=" ")
            tokens = tf.ragged.map_flat_values(self.table.lookup, tf.ragged.boolean_mask(words, words != ""))
            tokens = tf.ragged.boolean_mask(tokens, tokens != _LEFT_OUT)
            start = tf.fill([tf.shape(plain)[0], 1], START)
            tokens = tf.concat([tf.RaggedTensor.from_tensor(start), tokens], axis=1)
            # Reversed, the last 500 tokens come first and `to_tensor` pads behind them.
            backwards = tokens[:, ::-1].to_tensor(default_value=PADDING, shape=[None, REVIEW_TOKENS])
            return tf.reverse(backwards, axis=[1])

        def compute_output_spec(self, text: Any) -> Any:
            return keras.KerasTensor((text.shape[0], REVIEW_TOKENS), dtype="int32")

        def get_config(self) -> dict[str, Any]:
            rule = {"spaces": self.spaces, "apostrophes": self.apostrophes, "other_words": self.other_words}
            return {**super().get_config(), "words": list(self.words), **rule}

    return ReviewEncoder


LAYERS = (encoder_class,)
