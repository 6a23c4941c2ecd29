"""Wait for a server that is away: restarted, moved to another host, or behind a link that is cut for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import httpx
import tenacity

P = ParamSpec("P")
R = TypeVar("R")

# As long as the runs that wait for it can be kept: a server that is away for longer is no hiccup.
MAX_AWAY_S = 300
MAX_PAUSE_S = 15


def wait_while_away(call: Callable[P, R], *, max_away_s: float = MAX_AWAY_S, max_pause_s: float = MAX_PAUSE_S) -> Callable[P, R]:
    """Return a call that is made again while the server that it asks over HTTP does not answer, or answers that it cannot now.

    Prefect's client does that by itself only once it has reached its server, and most calls of a run make a client of their own.
    The call must be one that may be made twice, because an answer may have been lost.
    """
    return tenacity.retry(
        retry=tenacity.retry_if_exception(_is_away),
        stop=tenacity.stop_after_delay(max_away_s),
        wait=tenacity.wait_random_exponential(multiplier=1, max=max_pause_s),
        reraise=True,
    )(call)


def _is_away(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500
    return isinstance(error, httpx.TransportError)
