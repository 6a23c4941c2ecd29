"""What goes is old, and nothing that goes is needed: on made-up stores of every shape, and on plain cases by hand."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from retention_helpers import NOW, MadeUp, version, write

from storage.inventory import entries, remove, size_of
from storage.layout import Store
from tasks.retention.needed import Waiting, WaitingRun, needed_versions, waiting_of
from tasks.retention.plan import Item, old_versions, store_items, tables_of
from tasks.retention.remove import remove_item
from tasks.retention.report import markdown_of, pruned, rows_of, size_text, summary_of
from tasks.retention.runs import EndedRun, old_runs
from tasks.retention.settings import RetentionSettings

USUAL = RetentionSettings(keep=1)


@pytest.fixture
def made(tmp_path: Path) -> MadeUp:
    return MadeUp(Store.at(tmp_path))


@pytest.fixture(params=["disk", "memory"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MadeUp]:
    """A store on a disk, and one behind an fsspec URL."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = Store.at(tmp_path / "home" if request.param == "disk" else f"memory://retention/{tmp_path.name}")
    yield MadeUp(store)
    if not store.is_local:
        store.root.fs.rm(store.root.path, recursive=True)


def plan(made: MadeUp, chosen: RetentionSettings = USUAL) -> list[Item]:
    tables = tables_of(made.store)
    gone = old_versions(made.known, tables=tables, settings=chosen, now=NOW)
    return list(store_items(made.store, known=made.known, gone=gone, tables=tables, settings=chosen, now=NOW))


def carry_out(made: MadeUp, chosen: RetentionSettings = USUAL) -> list[Item]:
    items = plan(made, chosen)
    for item in items:
        remove_item(item, store=made.store)
    return items


def names(items: list[Item]) -> set[tuple[str, str]]:
    return {(item.kind, item.name) for item in items}


# Plain cases.


def test_an_old_table_that_nothing_names_goes_with_its_report_and_evaluations(anywhere: MadeUp) -> None:
    for name, age, stamp in (("old", 200, "2025-11-01"), ("young", 2, "2026-03-01"), ("newest", 150, "2026-05-30")):
        anywhere.table("jena", name, age_days=age, stamp=stamp)
        anywhere.report("jena", name, age_days=age)
        anywhere.evaluation(name, "k", age_days=age)
    items = carry_out(anywhere)
    expected = {("table", "jena/old"), ("report", "jena/old"), ("evaluation", "old/k"), ("evaluation", "newest/k")}
    assert names(items) == expected
    # One byte a file: a report has 2, an evaluation 4; a table has one byte and its manifest.
    assert {item.kind: item.size_bytes for item in items if item.kind != "table"} == {"report": 2, "evaluation": 4}
    assert not [name for name in anywhere.files() if "old" in name or "newest/k" in name]
    assert {"tables/jena/young/manifest.json", "tables/jena/newest/manifest.json"} <= anywhere.files()
    assert carry_out(anywhere) == []


def test_a_table_stays_that_a_version_names(made: MadeUp) -> None:
    made.table("jena", "trained", age_days=300, stamp="2025-01-01")
    made.table("jena", "newest", age_days=100, stamp="2026-01-01")
    made.versions = [version("jena", 1, table="trained", age_days=300)]
    assert names(plan(made)) == set()


def test_a_table_stays_that_a_test_against_the_champion_used(made: MadeUp) -> None:
    for name, stamp in (("tested", "2024"), ("by-an-earlier-one", "2025"), ("newest", "2026")):
        made.table("imdb", name, age_days=300, stamp=stamp)
    made.versions = [version("imdb", 4, aliases=["champion"], table="newest")]
    made.lines = {
        "imdb": [
            {"key": "a", "candidate": 5, "test": {"champion": 4, "rows": {"table": "tested"}}},
            {"key": "b", "candidate": 5, "test": {"champion": 3, "rows": {"table": "by-an-earlier-one"}}},
        ]
    }
    assert names(plan(made)) == {("table", "imdb/by-an-earlier-one")}


def test_the_newest_tables_of_real_data_and_of_the_sample_stay(made: MadeUp) -> None:
    for number in range(4):
        made.table("jena", f"real{number}", age_days=400 - number, stamp=f"2025-01-0{number + 1}")
        made.table("jena", f"sample{number}", age_days=400 - number, stamp=f"2025-01-0{number + 1}", simulated=True)
    gone = {"real0", "real1", "sample0", "sample1"}
    assert names(plan(made, RetentionSettings(keep=2))) == {("table", f"jena/{name}") for name in gone}


def test_an_ingest_that_found_a_table_unchanged_has_used_it(made: MadeUp) -> None:
    made.table("jena", "old", age_days=300, stamp="2025-01-01")
    made.table("jena", "newest", age_days=300, stamp="2026-01-01")
    at = (NOW - timedelta(days=3)).isoformat()
    write(made.store.first_ingested("jena"), age_days=3, text=json.dumps({"old": at}))
    assert names(plan(made)) == set()


def test_a_table_without_manifest_goes_once_nobody_can_be_writing_it(made: MadeUp) -> None:
    made.table("jena", "half", age_days=200, published=False)
    made.table("jena", "now", age_days=0.1, published=False)
    assert names(plan(made)) == {("table", "jena/half")}


def test_unfinished_work_goes_after_the_shorter_age(made: MadeUp) -> None:
    made.checkpoint("t", "old", age_days=15)
    made.checkpoint("t", "young", age_days=13)
    scratch = made.store.scratch
    write(scratch / "staging/jena/t-123/parsed.arrow", age_days=20)
    write(scratch / "staging/jena/t-123/table/test.parquet", age_days=19)
    write(scratch / "staging/jena/t-124/parsed.arrow", age_days=20)
    write(scratch / "staging/jena/t-124/table/test.parquet", age_days=1)
    write(scratch / "partial/jena/0f/a.zip", age_days=20)
    write(scratch / "progress/k.json", age_days=20)
    found = plan(made)
    assert names(found) == {
        ("checkpoint", "t-old"),
        ("scratch", "staging/jena/t-123"),
        ("scratch", "partial/jena/0f/a.zip"),
        ("scratch", "progress/k.json"),
    }


def test_what_was_read_from_the_raw_files_of_a_table_that_stays_is_cached_on(made: MadeUp) -> None:
    made.table("jena", "newest", age_days=200, raw=["aa"])
    for name in ("parts/jena/aa-0f.part", "copies/aa/a.zip", "parts/jena/bb-0f.part", "copies/bb/a.zip"):
        write(made.store.scratch / name, age_days=200)
    assert names(plan(made)) == {("scratch", "parts/jena/bb-0f.part"), ("scratch", "copies/bb/a.zip")}


def test_the_evaluation_of_a_champion_and_of_its_twin_stays(made: MadeUp) -> None:
    made.table("jena", "t", age_days=200)
    made.versions = [
        version("jena", 1, table="t", key="twin", links={"refitted_as": 2}),
        version("jena", 2, table="t", key="refit", aliases=["champion"], links={"refit_of": 1}),
        version("jena", 3, table="t", key="other"),
    ]
    for key in ("twin", "refit", "other"):
        made.evaluation("t", key, age_days=200)
    assert names(plan(made)) == {("evaluation", "t/other")}


def test_what_a_run_at_work_may_need_stays(made: MadeUp) -> None:
    for dataset in ("jena", "imdb"):
        for number in (1, 2):
            made.table(dataset, f"{dataset}{number}", age_days=300 - number)
            made.report(dataset, f"{dataset}{number}", age_days=300)
            made.checkpoint(f"{dataset}{number}", "k", age_days=300)
    made.waiting = Waiting(datasets=frozenset({"jena"}))
    assert names(plan(made)) == {
        ("table", "imdb/imdb1"),
        ("report", "imdb/imdb1"),
        ("checkpoint", "imdb1-k"),
        ("checkpoint", "imdb2-k"),
    }


def test_what_a_suspended_run_names_stays(made: MadeUp) -> None:
    made.table("jena", "0123456789ab", age_days=300)
    made.checkpoint("0123456789ab", "k", age_days=300)
    made.table("jena", "newest", age_days=299)
    made.waiting = Waiting(words=frozenset({"0123456789ab"}))
    assert names(plan(made)) == set()


def test_locks_raw_files_decisions_and_predictions_are_never_listed(made: MadeUp) -> None:
    made.table("jena", "newest", age_days=1)
    for path in (
        "raw/jena/0f/a.zip",
        "promotions/jena/00000001.json",
        "predictions/jena/2020-01/a.parquet",
        "monitoring/jena/x/manifest.json",
        "mlflow/mlflow.db",
        "prefect/prefect.db",
        "service/prefect.log",
        "tables/jena/.old.lock",
        "tables/jena/.ingested/1.json",
    ):
        write(made.store.root / path, age_days=3000)
    before = made.files()
    assert carry_out(made) == []
    assert made.files() == before


# Versions.


def test_no_version_goes_unasked(made: MadeUp) -> None:
    made.versions = [version("jena", number, age_days=900) for number in range(1, 9)]
    assert old_versions(made.known, tables=(), settings=RetentionSettings(), now=NOW) == ()


def test_old_versions_go_but_those_that_anything_refers_to(made: MadeUp) -> None:
    made.table("jena", "newest", age_days=300)
    made.versions = [
        version("jena", 1, age_days=900),
        version("jena", 2, age_days=900, aliases=["champion"], links={"refit_of": 3}),
        version("jena", 3, age_days=900, links={"refitted_as": 2}),
        version("jena", 4, age_days=900),  # issued predictions
        version("jena", 5, age_days=900),  # was champion
        version("jena", 6, age_days=900),  # a suspended run waits for its approval
        version("jena", 7, age_days=900, table="newest"),
        version("jena", 8, age_days=10),
        version("jena", 9, age_days=900),
        version("jena", 10, age_days=900),
        version("jena", 11, age_days=900, links={"refit_of": 9}),  # among the newest, and its twin is the ninth
    ]
    decision = {"outcome": "promoted", "candidate": "v5", "champion": None, "refit": None}
    made.lines = {"jena": [{"key": "k", "candidate": 5, "decision": decision}, {"key": "k", "candidate": 5, "applied": "k"}]}
    made.issued = {"jena": {4}}
    made.waiting = Waiting(words=frozenset({"jena@6"}))
    gone = old_versions(made.known, tables=tables_of(made.store), settings=RetentionSettings(keep_versions=1), now=NOW)
    assert [each.version for each in gone] == [10, 1]


def test_links_hold_from_both_ends_and_over_several_steps() -> None:
    versions = [version("jena", 1), version("jena", 2, links={"refit_of": 1}), version("jena", 3, links={"refit_of": 2})]
    assert needed_versions(versions, lines=(), issued={1}, newest_tables=(), words=()) == {1, 2, 3}
    assert needed_versions(versions, lines=(), issued={3}, newest_tables=(), words=()) == {1, 2, 3}
    assert needed_versions(versions, lines=(), issued={7}, newest_tables=(), words=()) == set()


def test_a_table_goes_with_the_last_version_that_names_it(made: MadeUp) -> None:
    made.table("jena", "old", age_days=300, stamp="2025")
    made.table("jena", "newest", age_days=300, stamp="2026")
    made.versions = [version("jena", 1, age_days=300, table="old"), version("jena", 2, aliases=["champion"], table="newest")]
    assert names(plan(made)) == set()
    assert names(plan(made, RetentionSettings(keep=1, keep_versions=1))) == {("table", "jena/old")}


# Waiting runs.

PARAMETERS = {"table": {"dataset": "jena", "version": "0123456789ab"}, "settings": {"seed": 1}, "models": [{"name": "x"}]}


@pytest.mark.parametrize(
    ("state", "since_days", "works"),
    [
        ("RUNNING", -1, True),
        ("RUNNING", -59, True),
        ("RUNNING", -61, False),
        ("PENDING", None, True),
        ("SCHEDULED", -1, True),  # late
        ("SCHEDULED", 3, False),
        ("PAUSED", -1, False),
        ("CANCELLING", -1, True),
    ],
)
def test_a_run_at_work_holds_its_data_set(state: str, since_days: float | None, works: bool) -> None:
    since = None if since_days is None else NOW + timedelta(days=since_days)
    waiting = waiting_of([WaitingRun(state, since, PARAMETERS)], now=NOW)
    assert "0123456789ab" in waiting.words
    assert waiting.datasets == ({"jena"} if works else set())


def test_the_data_set_of_a_run_stands_in_its_model_too() -> None:
    for parameters in ({"model": "jena-sample@3"}, {"request": {"model": "jena@3"}}, {"dataset": "jena", "data": None}):
        assert WaitingRun("RUNNING", NOW, parameters).datasets() == {"jena"}


def test_old_runs_of_prefect_go_but_the_newest_of_each_deployment_and_those_of_champions() -> None:
    def run(name: str, group: str, days: float) -> EndedRun:
        return EndedRun(name, name, group, NOW - timedelta(days=days))

    runs = [
        run("a1", "a", 100),
        run("a2", "a", 101),
        run("a3", "a", 102),
        run("b1", "b", 300),
        run("c1", "c", 1),
        run("c2", "c", 2),
    ]
    found = old_runs(runs, made_champions={"a3"}, settings=RetentionSettings(keep=1), now=NOW)
    assert [each.run_id for each in found] == ["a2"]


# Settings and words.


@pytest.mark.parametrize(("text", "days"), [("90d", 90), ("12w", 84), ("1.5", 1.5), (30, 30)])
def test_ages_are_written_as_people_write_them(text: Any, days: float) -> None:
    assert RetentionSettings(older_than_days=text).older_than_days == days


@pytest.mark.parametrize("text", ["0d", "1y", "", "-3d", "90 days", 0.5, None])
def test_an_age_that_cannot_be_is_refused(text: Any) -> None:
    with pytest.raises(ValidationError):
        RetentionSettings(older_than_days=text)


def test_what_goes_is_told_by_kind() -> None:
    items = [
        Item("table", "jena/a", "u", 1500, "because"),
        Item("table", "jena/b", "u", 500, "because"),
        Item("Prefect run", "r", "i", 0, "old"),
    ]
    ref = pruned(items, applied=False)
    assert rows_of(ref) == [
        {"what": "table", "number": "2", "size": "2.0 kB", "why": "because"},
        {"what": "Prefect run", "number": "1", "size": "-", "why": "old"},
    ]
    assert summary_of(ref) == "3 things, 2.0 kB can go: retrain gc --apply removes them"
    assert summary_of(pruned(items, applied=True)) == "Removed 3 things, 2.0 kB"
    assert summary_of(pruned(items[2:], applied=True)) == "Removed 1 thing"
    assert summary_of(pruned([], applied=True)) == "Nothing is old that nothing needs"
    assert "| table | 2 | 2.0 kB | because |" in markdown_of(ref)
    assert [size_text(size) for size in (0, 999, 1000, 2_500_000, 3_000_000_000)] == ["-", "999 B", "1.0 kB", "2.5 MB", "3.0 GB"]


# Listing and removing.


def test_a_tree_is_listed_by_depth_without_locks(anywhere: MadeUp) -> None:
    root = anywhere.store.root / "tables"
    write(root / "jena/a/one", age_days=5, text="12345")
    write(root / "jena/a/sub/two", age_days=3, text="123")
    write(root / "jena/.a.lock", age_days=1)
    write(root / "jena/shallow", age_days=1)
    found = entries(root, depth=2)
    assert [(entry.name, entry.size_bytes) for entry in found] == [("jena/a", 8), ("jena/shallow", 1)]
    assert found[0].modified == NOW - timedelta(days=3)
    assert size_of(root / "jena/a") == 8
    assert entries(anywhere.store.root / "nowhere", depth=1) == ()


def test_a_removal_can_be_repeated(anywhere: MadeUp) -> None:
    folder = anywhere.store.root / "tables/jena/a"
    write(folder / "manifest.json", age_days=1)
    write(folder / "test.parquet", age_days=1)
    for _ in range(2):
        remove(folder, first="manifest.json")
        remove(folder / "test.parquet")
    assert not anywhere.files()


def test_a_removal_that_is_killed_leaves_a_table_that_does_not_exist(made: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    made.table("jena", "old", age_days=300, stamp="2025")
    made.table("jena", "newest", age_days=200, stamp="2026")

    def killed(folder: Any) -> None:
        raise KeyboardInterrupt(folder)

    with monkeypatch.context() as patched:
        patched.setattr("storage.inventory.remove_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            carry_out(made)
    assert "tables/jena/old/test.parquet" in made.files()
    assert not made.store.manifest("jena", "old").exists()
    assert names(carry_out(made)) == {("table", "jena/old")}
    assert carry_out(made) == []


# Every shape of a store.

AGES = st.sampled_from([0.5, 13, 15, 89, 91, 500])
TABLES = [f"{dataset}{number}" for dataset in ("jena", "imdb") for number in range(3)]
MODELS = ("jena", "jena-sample", "imdb")


def dataset_of(table: str) -> str:
    return table.rstrip("0123456789")


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, Any]:
    tables = {
        name: {
            "age": draw(AGES),
            "published": draw(st.booleans()),
            "simulated": draw(st.booleans()),
            "stamp": draw(st.sampled_from(["", "2025", "2026"])),
            "report": draw(st.none() | AGES),
        }
        for name in draw(st.sets(st.sampled_from(TABLES)))
    }
    versions = []
    for model in MODELS:
        for number in range(1, draw(st.integers(0, 5)) + 1):
            link = draw(st.none() | st.tuples(st.sampled_from(["refit_of", "refitted_as"]), st.integers(1, 5)))
            aliases = draw(st.sets(st.sampled_from(["champion", "previous", "candidate"]), max_size=1))
            table = draw(st.sampled_from(["", *TABLES]))
            versions.append((model, number, draw(AGES), sorted(aliases), table, dict([link]) if link else {}))
    pairs = st.tuples(st.sampled_from(TABLES), st.sampled_from([f"{model}-key{n}" for model in MODELS for n in range(1, 4)]))
    return {
        "tables": tables,
        "versions": versions,
        "evaluations": {pair: draw(AGES) for pair in draw(st.sets(pairs, max_size=6))},
        "checkpoints": {pair: draw(AGES) for pair in draw(st.sets(pairs, max_size=4))},
        "scratch": {f"staging/jena/{n}": draw(AGES) for n in range(draw(st.integers(0, 2)))},
        "champions": draw(st.lists(st.tuples(st.sampled_from(MODELS), st.integers(1, 5)), max_size=3)),
        "issued": draw(st.lists(st.tuples(st.sampled_from(MODELS), st.integers(1, 5)), max_size=3)),
        "tests": draw(st.lists(st.tuples(st.sampled_from(MODELS), st.integers(1, 5), st.sampled_from(TABLES)), max_size=3)),
        "words": draw(st.sets(st.sampled_from([*TABLES, *(f"{m}@{n}" for m in MODELS for n in (1, 2))]), max_size=2)),
        "busy": draw(st.sets(st.sampled_from(["jena", "imdb"]), max_size=1)),
        "keep": draw(st.integers(1, 2)),
        "keep_versions": draw(st.none() | st.integers(1, 3)),
    }


def built(shape: dict[str, Any], folder: str) -> MadeUp:
    made = MadeUp(Store.at(folder))
    for name, table in shape["tables"].items():
        dataset = dataset_of(name)
        options = {key: table[key] for key in ("stamp", "simulated", "published")}
        made.table(dataset, name, age_days=table["age"], **options)
        if table["report"] is not None:
            made.report(dataset, name, age_days=table["report"])
    for model, number, age, aliases, table, links in shape["versions"]:
        key = f"{model}-key{number}"
        made.versions.append(version(model, number, age_days=age, aliases=aliases, table=table, key=key, links=links))
    for (table, key), age in shape["evaluations"].items():
        made.evaluation(table, key, age_days=age)
    for (table, key), age in shape["checkpoints"].items():
        made.checkpoint(table, key, age_days=age)
    for name, age in shape["scratch"].items():
        write(made.store.scratch / name / "file", age_days=age)
    for position, (model, number) in enumerate(shape["champions"]):
        decision = {"outcome": "promoted", "candidate": f"v{number}", "champion": None, "refit": None}
        line = {"key": str(position), "candidate": number}
        made.lines.setdefault(model, []).extend([{**line, "decision": decision}, {**line, "applied": str(position)}])
    for model, champion, table in shape["tests"]:
        test = {"champion": champion, "rows": {"table": table}}
        made.lines.setdefault(model, []).append({"key": "t", "candidate": 9, "test": test})
    for model, number in shape["issued"]:
        made.issued.setdefault(model, set()).add(number)
    made.waiting = Waiting(words=frozenset(shape["words"]), datasets=frozenset(shape["busy"]))
    return made


def reachable(shape: dict[str, Any], made: MadeUp) -> tuple[set[tuple[str, int]], set[str]]:
    """Return the versions and the files that must stay, by following what refers to what, written out plainly."""
    numbers = {(v.name, v.version): v for v in made.versions}
    newest: dict[tuple[str, bool], list[tuple[str, str, str]]] = {}
    for name, table in shape["tables"].items():
        if table["published"]:
            newest.setdefault((dataset_of(name), table["simulated"]), []).append((table["stamp"], "", name))
    top = {max(ranked)[2] for ranked in newest.values()}
    stay = set(shape["champions"]) | set(shape["issued"])
    for (model, number), each in numbers.items():
        age = next(v[2] for v in shape["versions"] if v[:2] == (model, number))
        if (
            shape["keep_versions"] is None
            or each.aliases
            or age <= 90
            or f"{model}@{number}" in shape["words"]
            or each.tags["table_version"] in top
            or number > max(n for m, n in numbers if m == model) - shape["keep_versions"]
            or model.split("-")[0] in shape["busy"]
        ):
            stay.add((model, number))
    edges = [((m, n), (m, int(v.tags[t]))) for (m, n), v in numbers.items() for t in ("refit_of", "refitted_as") if t in v.tags]
    while True:
        more = {b for a, b in edges if a in stay} | {a for a, b in edges if b in stay}
        if more <= stay:
            break
        stay |= more
    stay &= numbers.keys()
    tables = {numbers[each].tags["table_version"] for each in stay} | shape["words"] | top
    champions = {model: n for (model, n), v in numbers.items() if "champion" in v.aliases}
    tables |= {table for model, champion, table in shape["tests"] if champions.get(model) == champion}
    tables |= {name for name, table in shape["tables"].items() if table["age"] <= 90 or dataset_of(name) in shape["busy"]}
    files = {name for name in made.files() if name.split("/")[0] == "tables" and name.split("/")[2] in tables}
    standing = {name for name in shape["tables"] if name in tables}
    in_use = {each for each in stay if numbers[each].aliases}
    in_use |= {b for a, b in edges if a in in_use}
    keys = {numbers[each].tags["training_key"] for each in in_use if each in numbers}
    for name in made.files():
        kind, first, *rest = name.split("/")
        if kind == "reports" and rest[0] in standing | tables:
            files.add(name)
        if kind == "evaluations" and first in standing and rest[0].split(".")[0] in keys:
            files.add(name)
        if kind in ("evaluations", "checkpoints") and (first.split("-")[0] in shape["words"]):
            files.add(name)
    files |= {f"checkpoints/{t}-{k}/checkpoint.npz" for (t, k), age in shape["checkpoints"].items() if age <= 14}
    files |= {f".scratch/{name}/file" for name, age in shape["scratch"].items() if age <= 14}
    return stay, files


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(shapes())
def test_nothing_reachable_goes_and_a_second_time_nothing_is_left_to_go(shape: dict[str, Any]) -> None:
    chosen = RetentionSettings(keep=shape["keep"], keep_versions=shape["keep_versions"])
    with tempfile.TemporaryDirectory() as folder:
        made = built(shape, folder)
        stay, files = reachable(shape, made)
        gone = old_versions(made.known, tables=tables_of(made.store), settings=chosen, now=NOW)
        before = made.files()
        items = carry_out(made, chosen)
        assert not {(each.name, each.version) for each in gone} & stay
        assert files <= made.files() <= before
        made.versions = [each for each in made.versions if each not in gone]
        assert old_versions(made.known, tables=tables_of(made.store), settings=chosen, now=NOW) == ()
        assert carry_out(made, chosen) == []
        # What went is what was told.
        left = before - made.files()
        assert bool(left) == bool(items)
