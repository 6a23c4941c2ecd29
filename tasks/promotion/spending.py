"""Alpha spending: at which level a further test against one champion is made on test rows that earlier tests have used.

A run a week tests a newcomer on nearly the same test rows again and again. At a fixed level of 0.05, fifty such tests would
promote some newcomer by chance more often than not. Therefore `alpha` is the probability of a false promotion over all tests
against one champion until the test split has moved on by its own length, and every test spends a part of it:

    level = alpha / 2 * (6 / (pi² k²) + fresh share)

- k is the number of the test among those that share a row with it. The sum of 6 / (pi² k²) over all k is 1, so however many
  tests are made on the same rows, this half spends at most alpha / 2.
- The fresh share is the part of the test rows that no earlier test used; of a first test it counts as 0. Until the test split
  has moved on by its own length, the shares add up to 1 at most, so this half spends at most alpha / 2 too, and as much again
  for every further length. It keeps later tests possible: a run a week on a test split of a year has a level of about
  alpha / 100 in the fiftieth week, where the first half alone would leave alpha / 8000.

The bound is the union bound, so it holds however the tests depend on each other. A promotion begins anew, because the new
champion was itself chosen by its errors on these rows, which makes it harder and not easier to beat there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.training.seen import Flags


@dataclass(frozen=True)
class Spending:
    """What one test spends.

    Attributes:
        number: k, from 1: this test and the earlier ones that share a row with it.
        fresh_share: Part of its rows that no earlier test used.
        level: Level of significance.
    """

    number: int
    fresh_share: float
    level: float


def level_of_test(alpha: float, *, number: int, fresh_share: float) -> float:
    """Return the level of the `number`-th test on rows of which a part is fresh."""
    repeats = 6 / (math.pi * number) ** 2
    return alpha / 2 * (repeats + (fresh_share if number > 1 else 0.0))


def spend(alpha: float, *, used: Sequence[Flags]) -> Spending:
    """Return what a test spends.

    Args:
        alpha: Probability of a false promotion over all tests against one champion.
        used: For each earlier test against this champion, which rows of the new test it used, bool `(rows,)`.
    """
    sharing = [flags for flags in used if flags.any()]
    fresh_share = 1 - float(np.mean(np.any(sharing, axis=0))) if sharing else 1.0
    number = 1 + len(sharing)
    return Spending(number, fresh_share, level_of_test(alpha, number=number, fresh_share=fresh_share))
