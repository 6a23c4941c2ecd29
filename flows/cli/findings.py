"""How `retrain doctor` and `retrain status` tell what they found: a table, or JSON; and the exit code that follows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.diagnosis.finding import Finding


def tell(findings: Sequence[Finding], *, as_json: bool, well: str) -> NoReturn:
    """Print findings, and exit with code 1 if one of them is a fault.

    Args:
        findings: What was found.
        as_json: Whether to print JSON for programs.
        well: What to say where nothing is at fault.
    """
    faults = sum(finding.level == "fault" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    if as_json:
        values = {"faults": faults, "warnings": warnings, "findings": [finding.as_dict() for finding in findings]}
        typer.echo(json.dumps(values, indent=2, ensure_ascii=False))
    else:
        from flows.cli.console import make_console, print_rows

        rows = [
            {"check": finding.check, "": finding.level, "finding": finding.text, "remedy": finding.remedy} for finding in findings
        ]
        print_rows(rows, console=make_console())
        typer.echo(f"{_count(faults, 'fault')}, {_count(warnings, 'warning')}" if faults or warnings else well)
    raise SystemExit(1 if faults else 0)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
