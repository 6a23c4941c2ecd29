"""Candidate and champion are compared on rows that neither has seen, and a test on used rows has a smaller level."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from promotion_helpers import promote_best, write_log

from storage.layout import Store
from storage.records import ModelVersion
from storage.references import TableRef
from tasks.config import PromotionSettings
from tasks.datasets.row_ids import RowIds
from tasks.models import PROBLEMS
from tasks.promotion import comparison
from tasks.promotion.log import read_log
from tasks.promotion.rule import Check, Decision
from tasks.promotion.spending import Spending
from tasks.reporting.collect import run_report

NAME = "jena-sample"
FIRST_LEVEL = 0.05 * 3 / math.pi**2


class Bout:
    """The better version as candidate against the worse one as champion, whose record of what it has seen a test may change."""

    def __init__(self, trained: Any) -> None:
        self.trained, self.registry, self.store = trained, trained.registry, trained.store
        self.candidate, self.champion = trained.better, trained.worse
        self.manifest: dict[str, Any] = json.loads(self.registry.read_file(self.champion.run_id, "manifest.json"))
        test_ids = comparison.ids_of_test_rows(trained.table, problem=PROBLEMS["jena"], store=self.store)
        # The sample's test split has no gap: its examples predict every row from the 1440th and another 144 on.
        self.targets: RowIds = test_ids[1440 + 144 :]
        self.clear()

    def clear(self) -> None:
        write_log([], registry=self.registry, store=self.store)
        for version in self.registry.versions(NAME):
            for alias in version.aliases:
                self.registry._client.delete_registered_model_alias(NAME, alias)
        self.registry.set_aliases(NAME, {"champion": self.champion.version})

    def has_seen(self, last: int) -> None:
        """Let the champion have seen rows up to a stamp, in seconds, as if it had been trained on a longer span."""
        training = json.loads(json.dumps(self.manifest["training"]))
        training["seen"]["val"]["last_stamp"] = str(np.datetime64(int(last), "s"))
        self.write({**self.manifest, "training": training})

    def write(self, manifest: dict[str, Any]) -> None:
        self.registry._client.log_text(self.champion.run_id, json.dumps(manifest), "manifest.json")

    def decide(self, **settings: Any) -> Decision:
        return promote_best(
            [self.candidate],
            table=self.trained.table,
            settings=PromotionSettings(refit=False, **settings),
            registry=self.registry,
            store=self.store,
        )

    def tests(self) -> list[dict[str, Any]]:
        return [line["test"] for line in read_log(NAME, registry=self.registry, store=self.store) if "test" in line]


@pytest.fixture
def bout(trained: Any, preloaded_processes: None) -> Iterator[Bout]:
    bout = Bout(trained)
    yield bout
    bout.write(bout.manifest)
    bout.clear()
    bout.registry._client.delete_registered_model_alias(NAME, "champion")


def test_a_test_is_logged_with_its_rows_its_number_and_its_level(bout: Bout) -> None:
    decision = bout.decide()
    assert decision.outcome == "promoted"
    (test,) = bout.tests()
    p_value = test.pop("p_value")
    assert 0 < p_value < FIRST_LEVEL
    assert test == {
        "champion": bout.champion.version,
        "opponent": bout.champion.version,
        "rows": {
            "rows": len(bout.targets),
            "first_stamp": str(np.datetime64(int(bout.targets[0]), "s")),
            "last_stamp": str(np.datetime64(int(bout.targets[-1]), "s")),
        },
        "number": 1,
        "fresh_share": 1.0,
        "level": pytest.approx(FIRST_LEVEL),
        "alpha": 0.05,
    }
    assert "test 1 on these rows: level 0.015 of alpha 0.05, for 10 blocks" in decision.checks[-1].detail


def test_rows_that_the_champion_has_seen_are_left_out_and_counted(bout: Bout) -> None:
    # Ten blocks of 586 of 5,866 rows are needed, so six rows can be spared.
    assert len(bout.targets) == 5866
    bout.has_seen(bout.targets[5])
    decision = bout.decide()
    assert decision.outcome == "promoted"
    detail = decision.checks[-1].detail
    assert "5860 rows" in detail
    assert detail.endswith(f"6 of 5,866 test rows are left out, because v{bout.champion.version} has seen them")
    assert bout.tests()[0]["rows"]["first_stamp"] == str(np.datetime64(int(bout.targets[6]), "s"))


def test_a_champion_that_has_seen_too_many_test_rows_is_kept_and_the_reason_says_so(bout: Bout) -> None:
    """A champion of a longer span, scored on its own training rows."""
    bout.has_seen(bout.targets[6])
    decision = bout.decide()
    assert decision.outcome == "kept"
    assert decision.reason == (
        f"Kept champion v{bout.champion.version}: v{bout.champion.version} has seen 7 of the 5,866 test rows, a fair test needs "
        f"5,860 that neither side has seen; a person may decide: retrain promote {NAME}@{bout.candidate.version}"
    )
    assert bout.tests() == []  # a test that was not made spends nothing


def test_a_candidate_is_judged_on_the_rows_that_it_has_not_seen(bout: Bout) -> None:
    """Some reviews stand in train and test; a series has such rows where a version of another table is the candidate."""
    version = bout.registry.version(NAME, bout.candidate.version)
    manifest = json.loads(bout.registry.read_file(version.run_id, "manifest.json"))

    def decide(seen: int) -> Decision:
        changed = json.loads(json.dumps(manifest))
        changed["training"]["seen"]["val"]["last_stamp"] = str(np.datetime64(int(bout.targets[seen - 1]), "s"))
        bout.registry._client.log_text(version.run_id, json.dumps(changed), "manifest.json")
        bout.clear()
        return bout.decide()

    try:
        few, many = decide(6), decide(7)
    finally:
        bout.registry._client.log_text(version.run_id, json.dumps(manifest), "manifest.json")
    assert few.outcome == "promoted"
    assert few.checks[1] == Check(
        name="enough unseen test rows",
        passed=True,
        detail="v1 has seen 6 of the 5,866 test rows; 5,860 are left, and a fair test needs 5,860",
    )
    assert "5860 rows" in few.checks[2].detail  # against the naive baseline
    assert few.checks[3].detail.endswith("6 of 5,866 test rows are left out, because v1 has seen them")
    assert (many.outcome, len(many.checks)) == ("kept", 2)
    assert many.reason == ("Kept champion v2: v1 has seen 7 of the 5,866 test rows; 5,859 are left, and a fair test needs 5,860")


def test_the_report_says_that_a_champions_score_is_of_rows_that_it_has_seen(bout: Bout) -> None:
    bout.has_seen(bout.targets[6])
    decision = bout.decide()
    models = [bout.candidate]
    report = run_report(bout.trained.table, models=models, decision=decision, registry=bout.registry, store=bout.store)
    assert "it has seen 7 of the 5,866 test rows, so its scores there may be too good" in report.markdown
    assert [row["decision"] for row in report.plain["rows"] if row["version"] == f"v{bout.champion.version}"] == [
        "champion, has seen 7 of the 5,866 test rows"
    ]


def test_what_a_champion_has_seen_may_be_unknown_and_is_then_told(bout: Bout) -> None:
    training = {name: value for name, value in bout.manifest["training"].items() if name != "seen"}
    table = {name: value for name, value in bout.manifest["table"].items() if name != "bounds"} | {"version": "0123456789ab"}
    bout.write({**bout.manifest, "training": training, "table": table})
    detail = bout.decide().checks[-1].detail
    assert f"which rows v{bout.champion.version} has seen is not recorded" in detail


def test_the_same_test_spends_nothing_twice(bout: Bout) -> None:
    first = bout.decide(promote="manual")
    assert first.outcome == "manual"
    lines = read_log(NAME, registry=bout.registry, store=bout.store)
    assert bout.decide(promote="manual") == first  # out of the log
    assert read_log(NAME, registry=bout.registry, store=bout.store) == lines
    # Under another setting it is another decision, on the same test of the same two versions.
    assert bout.decide(promote="manual", margin=0.5).outcome == "manual"
    assert [test["number"] for test in bout.tests()] == [1, 1]


def test_a_run_that_never_promotes_spends_nothing(bout: Bout) -> None:
    decision = bout.decide(promote="never")
    assert decision.checks[-1].name == f"beats champion v{bout.champion.version}"
    assert bout.tests() == []


# --- what is spent, by the log


def version(number: int) -> ModelVersion:
    return ModelVersion(
        name=NAME,
        version=number,
        variant="gru_baseline",
        run_id="",
        uri="",
        aliases=(),
        tags={},
        metrics={},
        created="",
    )


TABLE = TableRef(dataset="jena", version="0123456789ab", uri="", simulated=True, rows={})


def entry(candidate: int, first: int, last: int, *, champion: int = 4, number: int = 1) -> dict[str, Any]:
    """A logged test on the rows from a first to a last second, a row a second."""
    described = comparison.describe_rows(np.array([*range(first, last + 1)]), problem=PROBLEMS["jena"])
    test = {"champion": champion, "rows": described, "number": number, "fresh_share": 1.0}
    return {"candidate": candidate, "decision": {}, "test": test}


def spent(entries: Sequence[dict[str, Any]], *, candidate: int = 9, champion: int = 4) -> Spending:
    return comparison._spending(
        entries,
        between=(version(candidate), version(champion)),
        ids=np.arange(100, 200),
        table=TABLE,
        problem=PROBLEMS["jena"],
        alpha=0.05,
        store=Store.from_environment(),
    )


def test_tests_of_other_rows_and_against_other_champions_do_not_count() -> None:
    entries = [entry(5, 0, 99), entry(6, 100, 150, champion=3), {"candidate": 7, "decision": {}}]
    assert (spent(entries).number, spent(entries).level) == (1, pytest.approx(FIRST_LEVEL))


def test_tests_on_these_rows_against_this_champion_count() -> None:
    spending = spent([entry(5, 50, 129), entry(6, 120, 149)])
    assert (spending.number, spending.fresh_share) == (3, pytest.approx(0.5))


def test_a_test_of_the_same_two_on_the_same_rows_is_no_further_one() -> None:
    entries = [entry(9, 100, 199, number=2), entry(6, 100, 199, number=3)]
    assert spent(entries).number == 2
    assert spent(entries, candidate=6).number == 3
    assert spent(entries, candidate=7).number == 3  # two have used these rows


def test_rows_that_are_no_series_are_known_by_their_digest_or_their_table(samples: Any) -> None:
    problem, table = PROBLEMS["imdb"], samples.tables["imdb"]
    ids = comparison.ids_of_test_rows(table, problem=problem, store=samples.store)

    def used(rows: dict[str, Any]) -> int:
        return int(comparison._used_rows(rows, ids=ids, table=TABLE, problem=problem, store=samples.store).sum())

    rows = comparison._described(ids, table=table, problem=problem)
    assert rows.keys() == {"rows", "table", "digest"}
    assert used(rows) == used({**rows, "digest": "other"}) == len(ids)
    assert used({**rows, "digest": "other", "table": "gone"}) == len(ids)
