"""The source that a registered model carries, so that MLflow alone can load it: nothing but its own layers and a loader.

The modules keep their text. Their imports of each other go to a package whose name holds a digest of the code, so that models of
different versions of the project load in one process.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from storage.errors import SettingError
from storage.io import digest_of_json
from storage.records import ModelCode
from tasks.models import mlflow_loader
from tasks.models.serialization import register_layers

if TYPE_CHECKING:
    import keras

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("tasks", "storage")
_DIGEST_DIGITS = 12


def code_of(model: keras.Model) -> ModelCode | None:
    """Return the code that loading a whole model needs beside Keras, or None where Keras's own layers are all that it holds.

    Raises:
        SettingError: The module of a layer imports what cannot be copied.
    """
    config = model.to_json()
    modules = {own.__module__ for name, own in register_layers().items() if f'"{name}"' in config}
    if not modules:
        return None
    sources = _sources({*modules, mlflow_loader.__name__})
    package = f"retrain_model_{digest_of_json(sources, length=_DIGEST_DIGITS)}"
    files = {f"{package}/{_path(module)}": _moved(source, package=package) for module, source in sources.items()}
    folders = {str(folder) for name in files for folder in Path(name).parents[:-1]}
    files |= {f"{folder}/__init__.py": "" for folder in folders}
    return ModelCode(loader_module=f"{package}.{mlflow_loader.__name__}", files=dict(sorted(files.items())))


def _path(module: str) -> str:
    return f"{module.replace('.', '/')}.py"


def _moved(source: str, *, package: str) -> str:
    """Return the source with its imports of the project's modules led to a package that holds them."""
    return re.sub(rf"^(\s*from )({'|'.join(_PACKAGES)})(?=[. ])", rf"\g<1>{package}.\g<2>", source, flags=re.MULTILINE)


def _sources(modules: set[str]) -> dict[str, str]:
    """Return the source of modules, and of all modules of the project that they import, by name in order."""
    sources: dict[str, str] = {}
    pending = sorted(modules)
    while pending:
        module = pending.pop()
        if module in sources:
            continue
        sources[module] = (_ROOT / _path(module)).read_text(encoding="utf-8")
        pending += sorted(_imported(ast.parse(sources[module]), module=module))
    return dict(sorted(sources.items()))


def _imported(tree: ast.AST, *, module: str) -> Iterator[str]:
    """Yield the modules of the project that a module imports when it runs; imports for type checkers are passed over."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import) and any(alias.name.partition(".")[0] in _PACKAGES for alias in node.names):
            raise SettingError(
                f"{module} says `{ast.unparse(node)}`: write `from ... import ...`, so that the model can carry it"
            )
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in _PACKAGES:
            yield from _modules_named(node, module=module)
        yield from _imported(node, module=module)


def _modules_named(node: ast.ImportFrom, *, module: str) -> Iterator[str]:
    source = str(node.module)
    if (_ROOT / _path(source)).is_file():
        yield source
        return
    for alias in node.names:
        name = f"{source}.{alias.name}"
        if (_ROOT / _path(name)).is_file():
            yield name
        elif not (_ROOT / name.replace(".", "/")).is_dir():
            raise SettingError(
                f"{module} has layers of its own and imports {alias.name} from the package {source}: import it from its module, "
                "so that the model can carry it"
            )
