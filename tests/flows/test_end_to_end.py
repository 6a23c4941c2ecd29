"""The whole pipeline on the sample, through the command: real Prefect server, process pool and MLflow."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from flow_helpers import NETWORK, SAMPLE_BUDGET, Run, WarmCommand, contents, python, query, retrain
from PIL import Image

from tasks.datasets.request import TableRequest
from tasks.models import PROBLEMS

# Half of it on a machine of its own with two cores; a busy one is given time.
pytestmark = pytest.mark.timeout(1200)

REFERENCES = {f"{name}-sample": set(problem.baselines) for name, problem in PROBLEMS.items()}
VARIANTS = {name: {NETWORK} | references for name, references in REFERENCES.items()}
"""What `first_run` trains."""
EVERY_VARIANT = {f"{name}-sample": set(problem.variants) for name, problem in PROBLEMS.items()}
MODELS = ("jena-sample", "imdb-sample")
WORSE = len(VARIANTS["jena-sample"]) + 1
"""The version that `worse_run` makes."""
KEYS = {
    "dataset",
    "model",
    "simulated",
    "source",
    "table",
    "acceptance",
    "stale",
    "repairs",
    "raw",
    "versions",
    "baseline_comparison",
    "decision",
    "refit",
    "results",
    "naive",
    "champion_warning",
    "intervals",
    "calibration",
    "rows",
    "links",
    "command",
}


def by_model(run: Run) -> dict[str, dict[str, Any]]:
    return {result["model"]: result for result in run.done.json}


def promotions(home: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((home / "promotions" / name).glob("*.json"))]


def networks(run: Run, name: str) -> set[str]:
    """What a run trained in epochs."""
    return run.variants(name) - REFERENCES[name]


def test_a_run_trains_what_it_was_asked_to(first_run: Run) -> None:
    assert {name: first_run.variants(name) for name in MODELS} == VARIANTS


@pytest.mark.slow
def test_every_variant_is_trained_when_all_are_asked_for(every_variant_run: Run) -> None:
    assert {name: every_variant_run.variants(name) for name in MODELS} == EVERY_VARIANT


def test_first_run_prints_a_table_for_each_data_set(new_run: Run) -> None:
    out = new_run.done.out
    assert "Traceback" not in out + new_run.done.err
    assert new_run.done.err == ""
    for name in MODELS:
        assert re.search(rf"{name} on table [0-9a-f]{{12}}  \(SAMPLE: simulated, not real data\)", out)
        assert re.search(r"Promoted v\d+.*", out)
        for variant in new_run.variants(name):
            assert variant in out
    # The candidate of each data set is compared with the linear baseline, whoever is ahead.
    assert re.search(r"\bgru_\w+ v\d+ [^|]* ridge v\d+ \(MAE ", out)
    assert re.search(r"\w+ v\d+ [^|]* tfidf_logistic v\d+ \(accuracy ", out)
    for word in ("linear baseline", "naive", "test MAE", " °C ", "test accuracy"):
        assert word in out, word
    assert re.search(r"jena-sample@\d+ is champion now; imdb-sample@\d+ is champion now\. Took \d:\d\d:\d\d\.", out)
    addresses = re.findall(r"^Look at:   file://(\S+)$", out, re.MULTILINE)
    assert [Path(address).name for address in addresses] == ["report.html"] * len(MODELS)
    assert all(Path(address).is_file() for address in addresses)


def test_first_run_shows_how_far_every_training_is(new_run: Run) -> None:
    epochs = Counter(re.findall(r"(jena|imdb) (\w+): epoch [12] of 2, .*\bval_loss \d\.\d+", new_run.done.out))
    for dataset in ("jena", "imdb"):
        for variant in networks(new_run, f"{dataset}-sample"):
            # The terminal looks twice a second, so that an epoch may pass unseen on a fast machine, but not the training.
            assert epochs[dataset, variant] >= 1, (dataset, variant)


def test_first_run_leaves_a_champion_of_each_sample_model_and_none_of_a_real_one(new_run: Run) -> None:
    assert {entry["name"] for entry in new_run.models} == set(MODELS)
    for name in MODELS:
        assert new_run.versions(name) == list(range(1, len(new_run.variants(name)) + 1))
        champion = new_run.aliased(name, "champion")
        (variant,) = [entry["variant"] for entry in new_run.models if (entry["name"], entry["version"]) == (name, champion)]
        assert variant in networks(new_run, name)
        assert new_run.aliased(name, "candidate") == champion
        assert new_run.aliased(name, "previous") is None


def test_flow_runs_are_named_and_completed(new_run: Run) -> None:
    found = query(
        new_run.home,
        "SELECT flow.name, flow_run.name, flow_run.state_type FROM flow_run JOIN flow ON flow.id = flow_run.flow_id",
    )
    # Other fixtures may have added runs since, so each is asked for by its name.
    for dataset in ("jena", "imdb"):
        for flow, name in (
            ("retrain", rf"retrain-{dataset} \d{{4}}-\d\d-\d\d \d\d:\d\d by hand SAMPLE"),
            ("ingest", f"ingest {dataset}"),
            *(("train", f"train {dataset} {variant}") for variant in new_run.variants(f"{dataset}-sample")),
            ("promote", f"promote {dataset}"),
        ):
            assert any(flow == run[0] and re.fullmatch(name, run[1]) for run in found), name
    assert {state for *_, state in found} == {"COMPLETED"}


def test_task_runs_are_named_and_completed(new_run: Run) -> None:
    found = dict(query(new_run.home, "SELECT name, state_type FROM task_run"))
    expected = {"find table", "parse and repair", "validate", "publish", "write data docs", "decide", "promote", "report"}
    expected |= {f"{step} {dataset}" for step in ("fetch",) for dataset in ("jena", "imdb")}
    every = {variant for name in MODELS for variant in new_run.variants(name)}
    expected |= {f"{step} {variant}" for step in ("find trained", "fit", "evaluate", "register", "train") for variant in every}
    assert expected <= found.keys()
    assert set(found.values()) == {"COMPLETED"}


def test_artifacts_of_each_kind(new_run: Run) -> None:
    found = dict(query(new_run.home, "SELECT key, type FROM artifact WHERE key IS NOT NULL"))
    for dataset in ("jena", "imdb"):
        assert found[f"validation-{dataset}-sample"] == "markdown"
        for kind, form in (("report", "markdown"), ("metrics", "table"), ("expectations", "markdown")):
            assert found[f"{kind}-{dataset}-sample"] == form
        for variant in networks(new_run, f"{dataset}-sample"):
            assert found[f"progress-{dataset}-{variant.replace('_', '-')}"] == "progress"


def test_progress_artifacts_end_at_the_end(new_run: Run) -> None:
    rows = query(new_run.home, "SELECT key, data FROM artifact WHERE type = 'progress' ORDER BY created")
    # An attempt that was cut short leaves its own behind; what a person is shown under the key is the latest.
    latest = {key: float(data) for key, data in rows}
    expected = {f"progress-{name.removesuffix('-sample')}-{variant}" for name in MODELS for variant in new_run.variants(name)}
    assert latest == {key.replace("_", "-"): 100.0 for key in expected}


@pytest.mark.parametrize("name", MODELS)
def test_report_holds_a_picture_that_shows_something(new_run: Run, name: str) -> None:
    reports = query(new_run.home, f"SELECT data FROM artifact WHERE key = 'report-{name}' ORDER BY created LIMIT 1")
    markdown = json.loads(reports[0][0])
    found = re.search(r"!\[[^]]*\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", markdown)
    assert found, markdown[:500]
    picture = Image.open(io.BytesIO(base64.b64decode(found[1], validate=True)))
    picture.load()
    assert picture.format == "PNG"
    colours = picture.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    assert len(colours) > 10
    for words in ("SAMPLE", *new_run.variants(name), "Promoted", "Against the linear baseline"):
        assert words.lower() in markdown.lower(), words


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        ("jena-sample", ("forecast of a test week", "error by hour", "temperature of the whole series")),
        ("imdb-sample", ("ROC curve and calibration", "confusion matrix", "length of the training reviews")),
    ],
)
def test_every_picture_of_a_report_is_a_file_beside_it_too(second_run: Run, name: str, titles: tuple[str, ...]) -> None:
    report = Path(by_model(second_run)[name]["links"]["report"]).with_suffix(".md")
    embedded = dict(re.findall(r"!\[([^]]*)\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", report.read_text()))
    for title in ("learning curves", *titles):
        assert any(found.startswith(title) for found in embedded), title
    for title, content in embedded.items():
        assert (report.parent / f"{title.replace(' ', '-')}.png").read_bytes() == base64.b64decode(content)
    assert ("## Most wrong" in report.read_text()) == (name == "imdb-sample")


@pytest.mark.slow
def test_every_variant_is_set_beside_the_tutorial_without_training_it_again(every_variant_run: Run, tmp_path: Path) -> None:
    document = tmp_path / "results.md"
    document.write_text("# Results\n\nWritten by hand.\n")
    done = retrain(
        "reproduce",
        "--data",
        "sample",
        *SAMPLE_BUDGET,
        "--patience",
        "10",
        "--seeds",
        "1",
        "--output",
        str(document),
        home=every_variant_run.home,
    )
    assert done.code == 0, done.err
    assert done.out.count("NOT COMPARABLE with the tutorial: the data is the sample, a simulation; epochs or steps") == 2
    text = document.read_text()
    assert text.startswith("# Results\n\nWritten by hand.\n")
    for name in MODELS:
        rows = [line for line in text.splitlines() if any(line.startswith(f"| `{variant}`") for variant in EVERY_VARIANT[name])]
        assert len(rows) >= len(EVERY_VARIANT[name])
    assert "0.8592 (not comparable)" in text
    listed = python("-m", "flows.cli.app", "models", "--json", home=every_variant_run.home).out
    assert json.loads(listed) == every_variant_run.models


def test_second_run_trains_and_publishes_nothing(first_run: Run, second_run: Run) -> None:
    assert second_run.models == first_run.models
    results = by_model(second_run)
    assert set(results) == set(MODELS)
    for result in results.values():
        assert set(result) == KEYS
        assert result["simulated"] is True
        assert result["source"] == "sample"
        assert result["table"]["published"] is False
        assert {entry["variant"]: entry["trained"] for entry in result["results"]} == dict.fromkeys(
            VARIANTS[result["model"]], False
        )
        assert result["decision"]["outcome"] == "kept"
        assert result["command"].startswith("retrain run all --data sample")
        for address in result["links"].values():
            assert Path(address).exists(), address
    assert "Traceback" not in second_run.done.err


def test_scores_beat_the_naive_baseline_and_repairs_are_told(second_run: Run) -> None:
    jena, imdb = (by_model(second_run)[name] for name in MODELS)
    assert min(entry["scores"]["mae_degc"] for entry in jena["results"]) < jena["naive"]["mae_degc"]
    # The test labels of the sample are balanced, so naming one of them is right half of the time.
    assert imdb["naive"]["accuracy"] == 0.5
    assert max(entry["scores"]["accuracy"] for entry in imdb["results"]) > 0.5
    counts = {repair["name"]: repair["count"] for repair in jena["repairs"]}
    assert (counts["repeated_rows"], counts["missing_values"], counts["incomplete_rows"]) == (2, 1, 0)


def test_nothing_unfinished_is_left(second_run: Run) -> None:
    left = [name for name in contents(second_run.home) if name.startswith("checkpoints/")]
    assert left == []
    scratch = second_run.home / ".scratch"
    # What was read from a raw file is kept for the next table.
    assert [path for path in scratch.rglob("*") if path.is_file() and path.suffix not in (".lock", ".part")] == []


@pytest.mark.slow
def test_worse_candidate_is_registered_and_not_promoted(second_run: Run, worse_run: Run) -> None:
    (result,) = worse_run.done.json
    trained, baseline = result["results"]
    assert (baseline["variant"], baseline["is_baseline"], baseline["trained"]) == ("ridge", True, False)
    champion = second_run.aliased("jena-sample", "champion")
    assert (trained["trained"], trained["version"]) == (True, WORSE)
    assert worse_run.versions("jena-sample") == list(range(1, WORSE + 1))
    assert worse_run.aliased("jena-sample", "champion") == champion
    assert worse_run.aliased("jena-sample", "candidate") == WORSE
    assert worse_run.aliased("jena-sample", "previous") is None
    assert trained["scores"]["mae_degc"] > result["naive"]["mae_degc"]
    assert result["decision"]["outcome"] == "rejected"


@pytest.mark.slow
def test_the_log_says_why_the_worse_candidate_was_not_promoted(worse_run: Run) -> None:
    champion = worse_run.aliased("jena-sample", "champion")
    logged = [line for line in promotions(worse_run.home, "jena-sample") if "decision" in line]
    assert [line["candidate"] for line in logged] == [champion, WORSE]
    decision = logged[-1]["decision"]
    assert decision["outcome"] == "rejected"
    assert f"v{champion}" == decision["champion"]
    failed = [check["name"] for check in decision["checks"] if not check["passed"]]
    assert any("naive" in name for name in failed), failed
    assert "naive" in decision["reason"]
    assert worse_run.done.json[0]["decision"]["reason"] == decision["reason"]


@pytest.mark.slow
def test_models_lists_versions_aliases_and_scores(worse_run: Run, warm: WarmCommand) -> None:
    done = warm("models", home=worse_run.home)
    assert (done.code, done.err) == (0, "")
    lines = {number: line for line in done.out.splitlines() for number in re.findall(r"jena-sample@(\d+)", line)}
    assert set(lines) == {str(number) for number in range(1, WORSE + 1)}
    champion = worse_run.aliased("jena-sample", "champion")
    assert [number for number, line in lines.items() if "champion" in line] == [str(champion)]
    assert re.search(r"candidate\b.*gru_baseline\b.* \d\.\d{4} °C MAE", lines[str(WORSE)])
    only = warm("models", "imdb-sample", "--json", home=worse_run.home)
    assert {entry["name"] for entry in only.json} == {"imdb-sample"}
    assert all(0 < entry["metrics"]["accuracy"] < 1 for entry in only.json)


@pytest.mark.slow
def test_show_tells_where_a_version_comes_from(worse_run: Run, warm: WarmCommand) -> None:
    plain = warm("show", "jena-sample@champion", home=worse_run.home)
    assert (plain.code, plain.err) == (0, "")
    for word in ("table", "SAMPLE", "mae_degc", "Promoted v", "keras", "models:/jena-sample/"):
        assert word in plain.out, word
    shown = warm("show", "jena-sample@champion", "--json", home=worse_run.home).json
    manifest = shown["manifest"]
    table = by_model(worse_run)["jena-sample"]["table"]
    assert manifest["table"]["version"] == table["version"]
    assert set(manifest["table"]["normalisation"]["mean"]) >= {"temperature_degc"}
    assert manifest["training"]["settings"]["seed"] == 0
    assert re.fullmatch(r"[0-9a-f]{64}", manifest["lock"])
    assert re.fullmatch(r"[0-9a-f-]{36}", manifest["flow_run_id"])
    assert manifest["libraries"]["keras"]
    assert {len(curve) for curve in manifest["training"]["curves"].values()} == {manifest["training"]["epochs_run"]}
    assert [line["decision"]["outcome"] for line in shown["decisions"]] == ["promoted"]


@pytest.mark.slow
def test_a_manifest_names_the_flow_run_that_made_it(worse_run: Run, warm: WarmCommand) -> None:
    shown = warm("show", f"jena-sample@{WORSE}", "--json", home=worse_run.home).json
    runs = query(worse_run.home, "SELECT flow_run.id, flow_run.name FROM flow_run WHERE name LIKE 'retrain-jena %'")
    assert shown["manifest"]["flow_run_id"] in {run_id for run_id, _ in runs}


@pytest.mark.slow
def test_promoting_by_hand_and_the_way_back(worse_run: Run, warm: WarmCommand) -> None:
    home, before = worse_run.home, worse_run.aliased("jena-sample", "champion")
    forth = warm("promote", f"jena-sample@{WORSE}", "--json", home=home)
    assert forth.code == 0, forth.err
    assert forth.json["outcome"] == "promoted"
    assert re.match(rf"Promoted v{WORSE}: by \S+, who takes the responsibility", forth.json["reason"])
    assert warm("show", "jena-sample@champion", "--json", home=home).json["version"] == WORSE
    back = warm("promote", "jena-sample@previous", home=home)
    assert back.code == 0, back.err
    assert back.out.startswith(f"Promoted v{before}: by ")
    assert warm("show", "jena-sample@champion", "--json", home=home).json["version"] == before
    assert [line["by"] for line in promotions(home, "jena-sample") if "by" in line] == ["run", "run", "person", "person"]
    again = warm("promote", f"jena-sample@{before}", home=home)
    assert again.code == 2
    assert again.err == f"retrain: jena-sample@{before} is the champion already: name another version\n"

    # The worse one once more, and back by a rollback, which every command then tells of.
    assert warm("promote", f"jena-sample@{WORSE}", home=home).code == 0
    reason = ("--reason", "It has learnt nothing at all.", "--person", "anna")
    rolled_back = warm("rollback", "jena-sample", *reason, "--json", home=home)
    assert (rolled_back.code, rolled_back.json["outcome"]) == (0, "rolled back"), rolled_back.err
    said = f"Rolled back champion v{WORSE} to v{before}: by anna: It has learnt nothing at all."
    assert rolled_back.json["reason"] == said
    assert warm("show", "jena-sample@champion", "--json", home=home).json["version"] == before
    assert said in warm("show", f"jena-sample@{WORSE}", home=home).out
    assert f"jena-sample@{WORSE}: v{WORSE} was rolled back by anna on " in warm("models", home=home).out
    refused = {entry["version"]: entry["refused"] for entry in warm("models", "jena-sample", "--json", home=home).json}
    assert [version for version, text in refused.items() if text] == [WORSE]
    # The replaced one was itself promoted in the place of the worse one, so nothing is left to go back to.
    second = warm("rollback", "jena-sample", *reason, home=home)
    assert second.code == 2
    assert second.err.startswith("retrain: jena-sample has no version to roll back to: ")


@pytest.fixture(params=["refit_baseline_run", pytest.param("refit_run", marks=pytest.mark.slow)])
def refitted_run(request: pytest.FixtureRequest) -> Run:
    """A run whose champion is a refit: a linear baseline, and a network."""
    run: Run = request.getfixturevalue(request.param)
    return run


def test_the_champion_is_the_refit_and_its_twin_is_linked(refitted_run: Run, warm: WarmCommand) -> None:
    home, out = refitted_run.home, refitted_run.done.out
    twin, champion = (refitted_run.aliased("jena-sample", alias) for alias in ("candidate", "champion"))
    assert champion == max(refitted_run.versions("jena-sample")) > (twin or 0)
    versions = {entry["version"]: entry for entry in refitted_run.models}
    assert versions[champion]["tags"]["refit_of"] == str(twin)
    assert versions[twin]["tags"]["refitted_as"] == str(champion)
    assert versions[champion]["metrics"] == {}
    # The terminal says which version is in use, and whose scores it shows.
    assert f"Promoted v{twin}, trained again on all rows as v{champion}: first model that beats the naive baseline" in out
    assert re.search(
        rf"v{champion}: v{twin} trained again on all 25,993 rows in \d+ s; the scores above are those of v{twin}\.", out
    )
    listed = warm("models", home=home).out
    assert re.search(rf"jena-sample@{champion}\b.*champion\b.* \d\.\d{{4}} °C MAE \(of @{twin}\)", listed)
    shown = warm("show", "jena-sample", home=home).out
    assert re.search(rf"refit of +@{twin}, trained again on all rows \(25,993 rows, \d+ s\)", shown)
    assert re.search(rf"test of @{twin} +mae_degc", shown)
    plain = warm("show", "jena-sample", "--json", home=home).json
    assert plain["scores_of"] == f"jena-sample@{twin}"
    assert plain["scores"]["mae_degc"] == versions[twin]["metrics"]["mae_degc"]
    assert plain["manifest"]["training"]["seen"].keys() == {"train", "val", "test"}
    (report,) = home.glob("reports/jena/*/report.md")
    assert f"- Refit: v{champion} is v{twin} trained again on all 25,993 rows" in report.read_text()


def test_the_same_run_again_refits_nothing(refit_baseline_run: Run, warm: WarmCommand) -> None:
    options = ("--data", "sample", "--variants", "ridge", "--allow-baselines", "--json")
    (result,) = warm("run", "jena", *options, home=refit_baseline_run.home).json
    assert result["decision"]["outcome"] == "kept"
    assert "still the best by validation" in result["decision"]["reason"]
    assert result["refit"] is None
    assert warm("models", "--json", home=refit_baseline_run.home).json == refit_baseline_run.models


PREDICT = """
import json
import sys

import mlflow
import numpy as np

mlflow.set_tracking_uri(sys.argv[2])


def predict(model, inputs):
    return mlflow.pyfunc.load_model(f"models:/{model}").predict(inputs)[:, 0]


readings = np.load(sys.argv[1])
texts = np.array([["Wonderful, EXCELLENT and superb: perfect! " * 5], ["Awful; terrible, boring, the worst waste. " * 5]])
forecast = predict("jena-sample@champion", readings)
positive = predict("imdb-sample@champion", texts)
print(json.dumps({"forecast_degc": forecast.tolist(), "positive": positive.tolist()}))
"""


@pytest.mark.slow
def test_champions_predict_from_raw_rows_and_raw_text_in_a_fresh_process(
    second_run: Run, tmp_path: Path, warm: WarmCommand
) -> None:
    from tasks.datasets import dataset_named
    from tasks.datasets.jena.physics import COLUMNS

    home = second_run.home
    shown = warm("show", "jena-sample@champion", "--json", home=home).json["manifest"]
    (raw,) = (home / "raw" / "jena-sample").glob("*/*.zip")
    parsed = dataset_named("jena").parse({raw.name: raw}, TableRequest(source="sample")).table
    first = shown["table"]["bounds"]["test"]["first_row"]
    # The test split has no gap, so its first window begins with its first row: ten days of raw readings in their own units.
    rows = parsed.slice(first, 1440)
    readings = np.column_stack([rows[name].to_numpy() for name in COLUMNS])[None].astype(np.float32)
    np.save(tmp_path / "readings.npy", readings)
    script = tmp_path / "predict.py"
    script.write_text(PREDICT)
    done = python(str(script), str(tmp_path / "readings.npy"), f"sqlite:///{home}/mlflow/mlflow.db", home=home)
    assert done.code == 0, done.err
    made = json.loads(done.out.splitlines()[-1])
    scored = pq.read_table(home / "evaluations" / shown["table"]["version"] / f"{shown['training_key']}.parquet")
    assert made["forecast_degc"] == pytest.approx([scored["prediction"][0].as_py()], abs=1e-3)
    happy, unhappy = made["positive"]
    assert 0 <= unhappy < 0.5 < happy <= 1
