"""Progress files: long work writes how far it is, and whoever draws bars shows it, in this process or another."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from storage.io import write_json


@dataclass(frozen=True)
class ProgressNote:
    """The progress of one piece of work.

    Attributes:
        share: Part that is done, 0 to 1; None: nobody can tell.
        text: The same in words.
        milestone: Rises by one for each step that gets a line of its own where no bar can be drawn.
        at: Seconds since the epoch.
    """

    title: str
    share: float | None
    text: str
    milestone: int
    at: float


def write_note(path: Path, *, title: str, share: float | None, text: str, milestone: int = 0) -> None:
    """Write, or replace, the note of one piece of work."""
    write_json(path, asdict(ProgressNote(title=title, share=share, text=text, milestone=milestone, at=time.time())))


@contextmanager
def shown(title: str, *, file: Path) -> Iterator[None]:
    """Let a bar without an end be shown while the block runs.

    Args:
        title: What is done, such as `validate` and a data set.
        file: The note; it is removed when the block ends.
    """
    with suppress(OSError):  # on a full disk the work goes on without a bar
        file.parent.mkdir(parents=True, exist_ok=True)
        write_note(file, title=title, share=None, text="")
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink(missing_ok=True)


def read_notes(folder: Path, *, since: float) -> dict[str, ProgressNote]:
    """Return the notes in a folder by file stem, without those written before `since` (seconds since the epoch)."""
    notes = {}
    for path in sorted(folder.glob("*.json")):
        try:
            note = ProgressNote(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):  # removed in between, or of another version
            continue
        if note.at >= since:
            notes[path.stem] = note
    return notes
