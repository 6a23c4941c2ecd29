"""Whether more is repaired in the rows that came after a model was trained than in those before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.config import MonitorSettings
from tasks.monitoring.findings import Finding

# More than so many times the share of before is a change, not chance.
GROWTH = 3.0


def repair_findings(newest: Mapping[str, Any], *, trained: Mapping[str, Any], settings: MonitorSettings) -> tuple[Finding, ...]:
    """Return the repairs whose share among the added rows is too large.

    Args:
        newest: Manifest of the newest table.
        trained: Manifest of the table that the champion was trained on.
        settings: The largest share.
    """
    rows, rows_before = (int(manifest["facts"].get("rows_read", 0)) for manifest in (newest, trained))
    if newest["source"] != trained["source"] or rows <= rows_before:
        return ()
    before = {repair["name"]: repair for repair in trained["repairs"]}
    findings = []
    for repair in newest["repairs"]:
        name, count, share = str(repair["name"]), int(repair["count"]), float(repair["share"])
        known = before.get(name)
        if known is None or not count or not share or repair["limit"] >= 1:
            continue
        added = (count - int(known["count"])) / (count / share * (rows - rows_before) / rows)
        if added > settings.max_repaired_share and added > GROWTH * float(known["share"]):
            numbers = {"share among the added rows": added, "share before": float(known["share"])}
            reason = (
                f"{name}: {100 * added:.2f} % of what came after the {rows_before:,} rows that the champion was trained from, "
                f"{100 * float(known['share']):.3f} % of these"
            )
            findings.append(Finding("fault", f"share of {name}", "fault", "fault of the source", reason, numbers))
    return tuple(findings)
