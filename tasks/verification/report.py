"""How people and programs are told what was compared and what is damaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from storage.references import Reference
from tasks.verification.check import KINDS, Checked
from tasks.verification.dependents import REMEDIES, Known, dependents


class VerifiedRef(Reference):
    """What was compared, and what is damaged.

    Attributes:
        checked: Number of files, by kind.
        without_checksum: Number of those among them with nothing to compare with, by kind.
        damages: Each damaged file as plain values: `kind`, `name`, `fault`, `dependents`, `remedy`, and `repaired`: what was
            done, empty if nothing.
    """

    checked: dict[str, int]
    without_checksum: dict[str, int]
    damages: tuple[dict[str, Any], ...] = ()

    @property
    def left(self) -> tuple[dict[str, Any], ...]:
        """What is damaged still."""
        return tuple(damage for damage in self.damages if not damage["repaired"])


def verified(found: Iterable[Checked], *, known: Known) -> VerifiedRef:
    """Return what was found as a reference."""
    checked: Counter[str] = Counter()
    without: Counter[str] = Counter()
    damages = []
    for each in found:
        checked[each.kind] += 1
        without[each.kind] += not each.has_checksum
        if each.fault:
            damages.append(
                {
                    "kind": each.kind,
                    "name": each.name,
                    "fault": each.fault,
                    "dependents": list(dependents(each, known=known)),
                    "remedy": REMEDIES[each.kind],
                    "repaired": "",
                }
            )
    return VerifiedRef(
        checked=dict(checked), without_checksum={kind: n for kind, n in without.items() if n}, damages=tuple(damages)
    )


def rows_of(ref: VerifiedRef) -> list[dict[str, str]]:
    """Return a row for each damaged file."""
    return [
        {
            "what": damage["kind"],
            "file": damage["name"],
            "fault": damage["fault"],
            "needed by": ", ".join(damage["dependents"]) or "-",
            "remedy": damage["repaired"] or damage["remedy"],
        }
        for damage in ref.damages
    ]


def summary_of(ref: VerifiedRef) -> str:
    """Return what was found in one sentence."""
    number = sum(ref.checked.values())
    files = "1 file" if number == 1 else f"{number:,} files"
    if not ref.damages:
        return f"All {files} are as they were written" if number != 1 else "The one file is as it was written"
    mended = len(ref.damages) - len(ref.left)
    said = f"{len(ref.damages)} of {files} {'is' if len(ref.damages) == 1 else 'are'} damaged"
    return f"{said}, {mended} of them repaired" if mended else said


def notes_of(ref: VerifiedRef) -> tuple[str, ...]:
    """Return what a person should know of it beside the damage."""
    without = sum(ref.without_checksum.values())
    if not without:
        return ()
    kinds = ", ".join(f"{number} of kind {kind}" for kind, number in ref.without_checksum.items())
    return (f"{without} files are of a release that wrote no checksums, and were only read: {kinds}.",)


def markdown_of(ref: VerifiedRef) -> str:
    """Return the page of a run."""
    lines = [f"{summary_of(ref)}.", "", "| what | files |", "|---|---|"]
    lines += [f"| {kind} | {ref.checked[kind]:,} |" for kind in KINDS if kind in ref.checked]
    rows = rows_of(ref)
    if rows:
        lines += ["", f"| {' | '.join(rows[0])} |", f"|{'---|' * len(rows[0])}"]
        lines += [f"| {' | '.join(row.values())} |" for row in rows]
    return "\n".join([*lines, "", *notes_of(ref)]) + "\n"
