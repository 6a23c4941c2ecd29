"""The licences of everything in the lock: known, allowed, and listed in docs/licences.md.

python tests/contracts/test_licences.py      (writes the list anew, after `make lock`)
"""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCK, DOCUMENT = ROOT / "requirements.lock", ROOT / "docs" / "licences.md"

# What may be used by whoever uses this project, and passed on with it.
ALLOWED = frozenset(
    (
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "BSD",
        "Apache-2.0",
        "ISC",
        "PSF-2.0",
        "CNRI-Python",
        "0BSD",
        "Zlib",
        "CC0-1.0",
        "MPL-2.0",
        "LGPL",
    ),
)
SAME = {
    "MIT License": "MIT",
    "Expat": "MIT",
    "BSD License": "BSD",
    "BSD-2-Clause": "BSD",
    "BSD-3-Clause": "BSD",
    "3-Clause BSD License": "BSD",
    "Apache Software License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL",
}
# Packages whose own data does not say it, or offers several licences of which one is allowed.
KNOWN = {
    "huey": "MIT",  # the file LICENSE of the package
    "namex": "Apache-2.0",  # its repository
    "skops": "MIT",  # the file LICENSE of the package
    "supervisor": "BSD",  # "BSD-derived", http://www.repoze.org/LICENSE.txt
    "text-unidecode": "Artistic-1.0",  # or GPL, at the user's choice
}
# Of these a person has looked at what they ask for.
ALLOWED_FOR = {"text-unidecode": "Artistic-1.0"}


def locked_packages() -> list[str]:
    """The names in the lock, sorted."""
    names = re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    return sorted(set(names), key=str.lower)


def licence_of(name: str) -> str | None:
    """The licence that an installed package names, in one way of writing; None if it is not for this system or Python."""
    if name in KNOWN:
        return KNOWN[name]
    try:
        data = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    classifiers = [line.rpartition(" :: ")[2] for line in data.get_all("Classifier") or [] if line.startswith("License")]
    named = [each for each in classifiers if each not in ("OSI Approved", "DFSG approved")]
    first_line = next(iter((data.get("License") or "").strip().splitlines()), "")
    text = data.get("License-Expression") or "; ".join(named) or first_line
    parts = re.split(r"( AND | OR |; |\(|\))", text) if "(" not in text or " AND " in text else [text]
    return "".join(SAME.get(part, part) for part in parts)


def is_allowed(licence: str) -> bool:
    """Tell whether every licence that is named is allowed; of several to choose from that is more than is needed."""
    return bool(licence) and set(re.split(r" AND | OR |; |[()]", licence)) - {""} <= ALLOWED


def listed() -> str:
    """The document."""
    rows = [(name, licence_of(name)) for name in locked_packages()]
    lines = [f"| {name} | {licence} |" for name, licence in rows if licence]
    others = ", ".join(name for name, licence in rows if licence is None)
    return "\n".join(
        [
            "# Licences of what is installed",
            "",
            "Every package of `requirements.lock`, as its own data names its licence; `tests/contracts/test_licences.py` writes",
            "and checks this list. The project itself is Apache-2.0.",
            "",
            "| package | licence |",
            "|---|---|",
            *lines,
            "",
            f"For other systems or versions of Python, and not installed here: {others}.",
            "",
        ]
    )


def test_every_licence_is_known_and_allowed() -> None:
    wrong = {}
    for name in locked_packages():
        licence = licence_of(name)
        if licence is None or licence == ALLOWED_FOR.get(name):
            continue
        if not is_allowed(licence):
            wrong[name] = licence
    assert wrong == {}, "look at what they ask for, then allow them here or take another package"


@pytest.mark.parametrize("licence", ["GPL-3.0", "MIT AND GPL-3.0", "AGPL-3.0 OR MIT", "", "Proprietary"])
def test_what_asks_for_more_is_not_allowed(licence: str) -> None:
    assert not is_allowed(licence)


def test_the_list_is_that_of_the_lock() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = {name for name, _ in re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)} - {"package"}
    packages = set(locked_packages())
    # What is installed differs between systems; each package of the lock is in the table or in the last line.
    assert {name for name in packages if name not in rows and name not in text} == set()
    assert rows <= packages


if __name__ == "__main__":
    DOCUMENT.write_text(listed(), encoding="utf-8")
