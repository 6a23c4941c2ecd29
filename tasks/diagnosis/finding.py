"""What a check finds, and how checks are run: beside each other, each for a limited time, and none with a secret in its words."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["ok", "warning", "fault"]
Check = Callable[[], Iterable["Finding"]]


@dataclass(frozen=True)
class Finding:
    """What a check found of one thing.

    Attributes:
        check: Name of the check, such as `databases`.
        level: `fault` if something does not work, `warning` if it will not, or not well.
        text: What was found, one line.
        remedy: What to do; empty where nothing is to be done.
    """

    check: str
    level: Level
    text: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the finding as plain values."""
        return asdict(self)


def run_checks(checks: Mapping[str, Check], *, limit_s: Mapping[str, float], secrets: Sequence[str] = ()) -> tuple[Finding, ...]:
    """Run checks beside each other and return their findings, in the order of the checks.

    A check that does not end in time is left behind: it runs in a thread that ends with the process.

    Args:
        checks: By name.
        limit_s: Seconds that a check may take, by name.
        secrets: Values that no finding may hold; they are replaced.
    """
    findings: dict[str, list[Finding]] = {}

    def run(name: str, check: Check) -> None:
        try:
            findings[name] = list(check())
        except Exception as error:  # a check that breaks must not hide the others
            said = next(iter(str(error).splitlines()), "")
            findings[name] = [Finding(name, "fault", f"cannot be checked: {type(error).__name__} {said}".strip())]

    threads = {name: threading.Thread(target=run, args=(name, check), daemon=True) for name, check in checks.items()}
    started_s = time.monotonic()
    for thread in threads.values():
        thread.start()
    for name, thread in threads.items():
        thread.join(max(0.0, started_s + limit_s[name] - time.monotonic()))
        if thread.is_alive():
            findings[name] = [Finding(name, "fault", f"no answer within {limit_s[name]:g} s", "see what it asks, and try again")]
    return tuple(_without_secrets(finding, secrets=secrets) for name in checks for finding in findings[name])


def _without_secrets(finding: Finding, *, secrets: Sequence[str]) -> Finding:
    text, remedy = finding.text, finding.remedy
    for secret in secrets:
        if secret:
            text, remedy = text.replace(secret, "***"), remedy.replace(secret, "***")
    return Finding(finding.check, finding.level, text, remedy)
