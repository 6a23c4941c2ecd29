"""What time does not mend is not tried again: a scheduled run fails at once, and the next one is not kept waiting for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.states import Failed

from storage.errors import DigestChangedError, MirrorError, RejectedError, SettingError, SourceError
from storage.raw_files import mirror_file
from tasks.ingestion import steps


@pytest.mark.parametrize(
    "error", [MirrorError("x"), DigestChangedError("x"), RejectedError("x"), SettingError("x"), ValueError("x")]
)
def test_a_fault_of_settings_or_data_is_not_tried_again(error: Exception) -> None:
    assert not steps._may_succeed_later(None, None, Failed(data=error))


def test_a_run_of_a_command_is_not_tried_again() -> None:
    assert not steps._may_succeed_later(None, None, Failed(data=SourceError("no answer")))


def test_a_mirror_that_is_none_is_told_from_one_that_does_not_answer(tmp_path: Path) -> None:
    for mirror in (tmp_path / "none", tmp_path):
        with pytest.raises(MirrorError):
            mirror_file(str(mirror), "a.zip")
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  a.zip\n")
    with pytest.raises(SourceError, match="does not hold it") as told:
        mirror_file(str(tmp_path), "a.zip")
    assert not isinstance(told.value, MirrorError)
