"""Follow an alias: load the version that it points to beside the one that answers, and swap them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from storage.errors import RetrainError
from storage.records import ModelVersion
from tasks.serving.served import ServedModel

RETRY_S = 60.0
Resolve = Callable[[str], ModelVersion]
Load = Callable[[ModelVersion], ServedModel]
Log = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class State:
    """What answers, and how it stands with the alias.

    Attributes:
        model: The version that answers.
        checked_at: When the registry last told where the alias points, UTC.
        problem: Why the alias is not followed at the moment; None: it is.
    """

    model: ServedModel
    checked_at: datetime | None = None
    problem: str | None = None


class Follower:
    """Asks the registry in the background where a reference points, and loads what is new.

    The old version answers until the new one is compiled. A version that does not load leaves the old one in place, and is
    tried again after `RETRY_S`.
    """

    def __init__(self, reference: str, *, resolve: Resolve, load: Load, poll_s: float, log: Log) -> None:
        """Load the version that the reference names.

        Raises:
            RetrainError: There is no such version, or it does not load.
        """
        self._reference, self._resolve, self._load = reference, resolve, load
        self._poll_s, self._log = poll_s, log
        self._failed: tuple[int, float] | None = None
        self._state = State(load(resolve(reference)), datetime.now(tz=UTC))
        self._thread = threading.Thread(target=self._poll, name="alias", daemon=True)

    @property
    def state(self) -> State:
        """What answers now: one value, so that a request sees a model and its version together."""
        return self._state

    def start(self) -> None:
        """Follow from now on, until the process ends."""
        self._thread.start()

    def check(self) -> None:
        """Ask once where the reference points, and load what is new."""
        model = self._state.model
        try:
            version = self._resolve(self._reference)
        except RetrainError as error:
            self._keep(f"{self._reference} cannot be found: {error}", checked_at=self._state.checked_at)
            return
        now = datetime.now(tz=UTC)
        if version.version == model.version.version:
            self._state = State(model, now)
            return
        if self._failed and self._failed[0] == version.version and time.monotonic() < self._failed[1]:
            return
        try:
            loaded = self._load(version)
        except Exception as error:  # whatever it is, the old version goes on answering
            self._failed = (version.version, time.monotonic() + RETRY_S)
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            self._keep(f"{self._reference} is version {version.version}, which does not load: {reason}", checked_at=now)
            return
        self._failed = None
        self._state = State(loaded, now)
        self._log({"event": "version", "from": model.version.version, "to": version.version})

    def _keep(self, problem: str, *, checked_at: datetime | None) -> None:
        """Go on with the version that answers, and say why: once in the log, and in the state until it is over."""
        version = self._state.model.version.version
        problem = f"{problem}; version {version} goes on answering"
        if problem != self._state.problem:
            self._log({"event": "outdated", "version": version, "problem": problem})
        self._state = State(self._state.model, checked_at, problem)

    def _poll(self) -> None:
        while True:
            time.sleep(self._poll_s)
            try:
                self.check()
            except Exception as error:  # the thread must outlive a registry that is down
                self._keep(f"the registry cannot be asked: {type(error).__name__}: {error}", checked_at=self._state.checked_at)
