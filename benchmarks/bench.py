"""What the parts of the benchmarks share: a folder for a run, its data, and the peers' environments."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks import environments
from benchmarks.settings import Sizes
from benchmarks.workers import finish, own_module


@dataclass
class Data:
    """Published tables and the same data as arrays.

    Attributes:
        tables: Plain references by data set.
        arrays: Folder with one folder a data set.
    """

    home: Path
    tables: dict[str, dict[str, Any]]
    arrays: Path

    def told(self, dataset: str) -> str:
        """Return what a data set is in a few words."""
        table = self.tables[dataset]
        kind = "SIMULATED" if table["simulated"] else "real files"
        return f"{kind}, table {table['version']}, {sum(table['rows'].values()):,} rows"


class Bench:
    """One run of the benchmarks.

    Attributes:
        folder: Everything that is written lies in it, and goes with it.
        sizes: How much is measured.
        mirrors: Folders with real files; the simulation stands in for what they lack.
        before: Checkout of another commit, whose steps take turns with those of this one.
        alone: Whether the opponents of steps are left out.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sizes: Sizes,
        mirrors: Sequence[str],
        quick: bool,
        before: Path | None = None,
        alone: bool = False,
    ) -> None:
        self.folder, self.sizes, self.mirrors, self.quick = folder, sizes, tuple(mirrors), quick
        self.before, self.alone = before, alone

    def say(self, text: str) -> None:
        """Tell the person who waits what is being done."""
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    @cached_property
    def data(self) -> Data:
        """The tables of the mirrors, or of the sample, published once for all parts."""
        return self._published("data", sample=self.quick)

    @cached_property
    def sample(self) -> Data:
        """The tables of the sample."""
        return self._published("sample", sample=True)

    def _published(self, name: str, *, sample: bool) -> Data:
        home, arrays = self.folder / name / "home", self.folder / name / "arrays"
        self.say("publishing the tables ...")
        made = finish(own_module("benchmarks.data", str(home), str(arrays), str(int(sample)), *self.mirrors))
        return Data(home=home, tables=made.answer, arrays=arrays)

    @cached_property
    def peers(self) -> dict[str, tuple[Path | None, str]]:
        """Interpreter of each peer's environment, or None and why it is missing."""
        return {name: environments.make(name) for name in environments.PACKAGES}
