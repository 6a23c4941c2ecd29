"""Whole models from `.keras` files, with the project's own layers, which Keras loads only when it is given them.

A model that holds such layers carries a copy of this module (`tasks.models.model_code`), so it imports little.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from tasks.models import networks

if TYPE_CHECKING:
    import keras


def register_layers() -> dict[str, Any]:
    """Register every layer that a saved model of the project can hold, and return the classes by registered name.

    A module of networks that has layers of its own names the functions that make their classes in `LAYERS`. Keras is imported
    within those functions, so that the module itself can be imported quickly.
    """
    import keras

    classes: dict[str, Any] = {}
    for module in iter_modules(networks.__path__, prefix=f"{networks.__name__}."):
        for make_class in getattr(import_module(module.name), "LAYERS", ()):
            own_class = make_class()
            package, _, name = keras.saving.get_registered_name(own_class).partition(">")
            # Anew, because a copy of this code in the process may have registered its class under the same name.
            keras.saving.register_keras_serializable(package, name)(own_class)
            classes[f"{package}>{name}"] = own_class
    return classes


def load_model_file(path: Path) -> keras.Model:
    """Load a whole model from its `.keras` file in Keras's safe mode, without its training state."""
    import keras

    register_layers()
    return keras.saving.load_model(path, compile=False, safe_mode=True)
