"""Remove the files of items. What is cut off on the way is completed by the next time."""

from __future__ import annotations

from pathlib import Path

from upath import UPath

from storage.inventory import remove
from storage.io import locked
from storage.layout import MANIFEST, Store
from tasks.retention.plan import Item


def remove_item(item: Item, *, store: Store) -> None:
    """Remove one item of a store.

    A table loses its manifest first, without which it does not exist, and an evaluation the file that completes it.
    """
    path = Path(item.uri) if "://" not in item.uri else UPath(item.uri, **store.root.storage_options)
    if item.kind == "table":
        with locked(path):
            remove(path, first=MANIFEST)
    elif item.kind == "report":
        with locked(path):
            remove(path)
    elif item.kind == "evaluation":
        remove(path.with_name(f"{path.name}.json"))
        for file in sorted(path.parent.glob(f"{path.name}.*"), key=str):
            remove(file)
    elif item.kind == "checkpoint":
        remove(path, first="fitted.json")
    else:
        remove(path)
