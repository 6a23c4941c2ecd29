"""The project's own layers, made known to Keras, which loads no other from a file."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from tasks.models import networks


def register_layers() -> None:
    """Register every layer that a saved model of the project can hold.

    A module of networks that has layers of its own names the functions that make their classes in `LAYERS`. Keras is imported
    within those functions, so that the module itself can be imported quickly.
    """
    for module in iter_modules(networks.__path__, prefix=f"{networks.__name__}."):
        for make_class in getattr(import_module(module.name), "LAYERS", ()):
            make_class()
