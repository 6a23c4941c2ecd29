"""How people and programs are told what can go, or what was removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from storage.references import Reference
from tasks.retention.plan import KINDS, Item


class PrunedRef(Reference):
    """What can go, or was removed.

    Attributes:
        applied: Whether it was removed.
        items: One for each thing, as plain values.
    """

    applied: bool
    items: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()


def pruned(items: Sequence[Item], *, applied: bool, notes: Sequence[str] = ()) -> PrunedRef:
    """Return items as a reference."""
    return PrunedRef(applied=applied, items=tuple(asdict(item) for item in items), notes=tuple(notes))


def rows_of(ref: PrunedRef) -> list[dict[str, str]]:
    """Return a row for each kind of thing, with its number, its bytes and the reasons."""
    rows = []
    for kind in KINDS:
        own = [item for item in ref.items if item["kind"] == kind]
        if own:
            reasons = "; ".join(dict.fromkeys(str(item["reason"]) for item in own))
            size_bytes = sum(int(item["size_bytes"]) for item in own)
            rows.append({"what": kind, "number": str(len(own)), "size": size_text(size_bytes), "why": reasons})
    return rows


def size_text(size_bytes: int) -> str:
    """Return a number of bytes as people read it; a dash for a row in a database."""
    if not size_bytes:
        return "-"
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000  # type: ignore[assignment]
    return f"{size_bytes:.1f} GB"


def summary_of(ref: PrunedRef) -> str:
    """Return what can go, or was removed, in one sentence."""
    if not ref.items:
        return "Nothing is old that nothing needs"
    size_bytes = sum(int(item["size_bytes"]) for item in ref.items)
    things = "1 thing" if len(ref.items) == 1 else f"{len(ref.items)} things"
    things += f", {size_text(size_bytes)}" if size_bytes else ""
    return f"Removed {things}" if ref.applied else f"{things} can go: retrain gc --apply removes them"


def markdown_of(ref: PrunedRef) -> str:
    """Return the page of a run."""
    lines = [f"{summary_of(ref)}.", ""]
    rows = rows_of(ref)
    if rows:
        lines += [f"| {' | '.join(rows[0])} |", f"|{'---|' * len(rows[0])}"]
        lines += [f"| {' | '.join(row.values())} |" for row in rows]
    return "\n".join([*lines, "", *ref.notes]) + "\n"
