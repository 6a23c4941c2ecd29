"""The project's own layers, made known to Keras, which loads no other."""

from __future__ import annotations

from tasks.models.networks.review_encoder import encoder_class
from tasks.models.networks.tfidf import bag_class


def register_layers() -> None:
    """Register every layer that a saved model of the project can hold."""
    encoder_class()
    bag_class()
