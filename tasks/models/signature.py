"""The digest of a network as it is built, by which an equal training is found and a changed one is trained anew."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.errors import DataError
from storage.io import digest_of_json, read_json, sha256_of, write_json
from storage.layout import signatures_folder
from tasks.models.spec import Variant

if TYPE_CHECKING:
    import keras

# Points at which a schedule is compared; two schedules that agree on all of them train alike.
SCHEDULE_POINTS = 101


@dataclass(frozen=True)
class NetworkSignature:
    """What a training follows from beside its settings.

    Attributes:
        digest: SHA-256 of layers, optimizer, schedule, initialisation and closed form.
        can_shard: Whether shards of a batch are worth a core each.
    """

    digest: str
    can_shard: bool


def network_signature(variant: Variant) -> NetworkSignature:
    """Return the signature of a variant.

    To build a network takes Keras, whose import takes seconds, so signatures are cached on disk. A network is built without
    arguments: it can only depend on the code under `tasks` and on the libraries, and both are part of the cache's key.
    """
    names = sorted(_name(function) for function in _functions(variant))
    modules = {_module_file(_unbound(function)) for function in _functions(variant)}
    content: dict[str, Any] = {"variant": variant.name, "code": _code_digest(), "keras": importlib.metadata.version("keras")}
    content["functions"] = names
    content["modules"] = sorted(sha256_of(path) for path in modules if path is not None)
    path = signatures_folder() / f"{digest_of_json(content)}.json"
    # A function within another one, or bound to an object, may hold values that its name and source do not show.
    if None in modules or any("<" in name for name in names):
        return _compute(variant)
    try:
        return NetworkSignature(**read_json(path))
    except (DataError, TypeError, OSError):
        signature = _compute(variant)
    try:
        write_json(path, asdict(signature))
    except OSError:  # a home that cannot be written to
        return signature
    return signature


def _functions(variant: Variant) -> list[Callable[..., Any]]:
    functions = (variant.network, variant.optimizer, variant.schedule, variant.init_weights, variant.fit_closed_form)
    return [function for function in functions if function is not None]


def _unbound(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that `functools.partial` binds to arguments."""
    return function.func if isinstance(function, partial) else function


def _name(function: Callable[..., Any]) -> str:
    """Return a name that tells a function from others, with the arguments that it is bound to."""
    name = getattr(_unbound(function), "__qualname__", "<object>")
    return f"{name}{function.args}{function.keywords}" if isinstance(function, partial) else name


def _module_file(function: Callable[..., Any]) -> Path | None:
    module = sys.modules.get(getattr(function, "__module__", ""))
    name = getattr(module, "__file__", None)
    return Path(name) if name else None


@cache
def _code_digest() -> str:
    root = Path(__file__).resolve().parents[1]
    return digest_of_json({str(path.relative_to(root)): sha256_of(path) for path in sorted(root.rglob("*.py"))})


def _compute(variant: Variant) -> NetworkSignature:
    from tasks.models.device import import_keras

    import_keras()
    from tasks.models.engine.execution import can_shard

    network = variant.network()
    optimizer = variant.optimizer(variant.learning_rate)
    schedule = variant.schedule
    content = {
        "network": describe_layers(network),
        "optimizer": [type(optimizer).__name__, _plain({**optimizer.get_config(), "learning_rate": None, "name": None})],
        "schedule": [schedule(point / (SCHEDULE_POINTS - 1)) for point in range(SCHEDULE_POINTS)] if schedule else None,
        "init_weights": _syntax(variant.init_weights),
        "fit_closed_form": _syntax(variant.fit_closed_form),
        "crop_tokens": variant.crop_tokens,
    }
    return NetworkSignature(digest=digest_of_json(content), can_shard=can_shard(network))


def describe_layers(network: keras.Model) -> Any:
    """Return the configuration of a network as JSON-ready values, the same however many networks were built before it.

    Keras numbers the names of layers through a process; here they are numbered through the network.
    """
    config = network.get_config()
    names = {name: f"layer {number}" for number, name in enumerate(dict.fromkeys(_layer_names(config)))}
    return _plain(config, names=names)


def _layer_names(value: Any) -> Iterator[str]:
    """Yield the names of layers and operations in a configuration, those that wrappers hold too, in their order."""
    if isinstance(value, list | tuple):
        for each in value:
            yield from _layer_names(each)
    elif isinstance(value, Mapping):
        config = value.get("config")
        # The name of a policy is what it says, such as float32.
        if isinstance(config, Mapping) and "name" in config and value.get("class_name") != "DTypePolicy":
            yield str(config["name"])
        for each in value.values():
            yield from _layer_names(each)


def _plain(value: Any, *, names: Mapping[str, str] | None = None) -> Any:
    names = names or {}
    if isinstance(value, Mapping):
        return {str(key): _plain(each, names=names) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, names=names) for each in value]
    if isinstance(value, str):
        return names.get(value, value)
    return value if isinstance(value, int | float | bool) or value is None else str(value)


def _syntax(function: Callable[..., Any] | None) -> str | None:
    """Return the syntax of the module that a function stands in, without comments and docstrings.

    The function's constants and helpers stand beside it, and change what it does as much as its own lines.
    """
    if function is None:
        return None
    module = sys.modules[_unbound(function).__module__]
    tree = ast.parse(inspect.getsource(module))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return f"{_name(function)}: {ast.dump(tree)}"
