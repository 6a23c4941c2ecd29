"""Models as they are saved and loaded: networks that choose their kernel where they are loaded, and the project's own layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.models.networks.review_encoder import encoder_class
from tasks.models.networks.tfidf import bag_class

if TYPE_CHECKING:
    import keras


def portable(network: keras.Model) -> keras.Model:
    """Return the network with recurrent layers that choose their kernel where they are loaded."""
    import keras

    def choose(layer: keras.layers.Layer) -> keras.layers.Layer:
        return layer.__class__.from_config(_with_free_kernel(layer.get_config()))

    clone = keras.models.clone_model(network, clone_function=choose)
    clone.set_weights(network.get_weights())
    return clone


def _with_free_kernel(config: Any) -> Any:
    """Return a layer's configuration with its kernel left open, within the layers that it wraps too."""
    if isinstance(config, dict):
        return {name: "auto" if name == "use_cudnn" else _with_free_kernel(value) for name, value in config.items()}
    return config


def register_layers() -> None:
    """Register every layer that a saved model of the project can hold."""
    encoder_class()
    bag_class()
