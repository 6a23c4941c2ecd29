"""Raw text to tokens inside the exported model, by the rule that the data set's word ranks were made with."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from tasks.datasets.tokens import PADDING, RANK_OFFSET, REVIEW_TOKENS, START, UNKNOWN

if TYPE_CHECKING:
    import keras

# The characters that the Keras tokenizer turns to spaces, as a regular expression class.
FILTERED = r"[!\"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~\t\n]"


def review_encoder(words: tuple[str, ...]) -> keras.layers.Layer:
    """Return the layer that turns text, string `(batch, 1)`, into int32 `(batch, 500)`.

    Args:
        words: The vocabulary by rank: the first word has rank 1.
    """
    return encoder_class()(words=words, name="encode")


@cache
def encoder_class() -> Any:
    """Register the encoder with Keras, which a saved model needs before it can be loaded."""
    import keras
    import tensorflow as tf

    @keras.saving.register_keras_serializable(package="retrain")
    class ReviewEncoder(keras.layers.Layer):  # type: ignore[misc]
        """Text to tokens; strings live on the host, so this layer is TensorFlow's whatever the backend."""

        def __init__(self, words: tuple[str, ...], **options: Any) -> None:
            super().__init__(**options)
            self.words = tuple(words)
            keys = tf.constant(self.words)
            ranks = tf.range(1, len(self.words) + 1, dtype=tf.int32) + RANK_OFFSET
            self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, ranks), UNKNOWN)

        def call(self, text: Any) -> Any:
            # An empty encoding makes `lower` touch ASCII letters only, as the words were when their ranks were made.
            spaced = tf.strings.regex_replace(tf.strings.lower(tf.reshape(text, [-1]), encoding=""), FILTERED, " ")
            words = tf.strings.split(spaced, sep=" ")
            ranks = tf.ragged.map_flat_values(self.table.lookup, tf.ragged.boolean_mask(words, words != ""))
            start = tf.fill([tf.shape(spaced)[0], 1], START)
            tokens = tf.concat([tf.RaggedTensor.from_tensor(start), ranks], axis=1)
            # Reversed, the last 500 tokens come first and `to_tensor` pads behind them.
            backwards = tokens[:, ::-1].to_tensor(default_value=PADDING, shape=[None, REVIEW_TOKENS])
            return tf.reverse(backwards, axis=[1])

        def compute_output_spec(self, text: Any) -> Any:
            return keras.KerasTensor((text.shape[0], REVIEW_TOKENS), dtype="int32")

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "words": list(self.words)}

    return ReviewEncoder


LAYERS = (encoder_class,)
