"""A trained network that chooses its kernel where it is loaded, not where it was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def portable(network: keras.Model) -> keras.Model:
    """Return the network with recurrent layers that choose their kernel where they are loaded."""
    import keras

    def choose(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if "use_cudnn" in config:
            config["use_cudnn"] = "auto"
        return layer.__class__.from_config(config)

    clone = keras.models.clone_model(network, clone_function=choose)
    clone.set_weights(network.get_weights())
    return clone
