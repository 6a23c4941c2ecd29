"""What the tests share: TensorFlow with one thread, no telemetry, a store with both samples, and tables small enough to train."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before anything imports TensorFlow, MLflow, Great Expectations or Prefect. A GPU is hidden, so that all machines test the same.
os.environ.update(
    CUDA_VISIBLE_DEVICES="-1",
    TF_CPP_MIN_LOG_LEVEL="3",
    GX_ANALYTICS_ENABLED="false",
    MLFLOW_DISABLE_TELEMETRY="true",
    MLFLOW_LOGGING_LEVEL="WARNING",  # as the project sets it; a test may import MLflow before
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    DO_NOT_TRACK="true",
)
os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ.pop("RETRAIN_REQUIRE_GPU", None)

import pyarrow as pa
import pytest
from hypothesis import settings
from sample_helpers import publish_sample

from storage.layout import HOME_VARIABLE, Store
from storage.references import ModelRef, TableRef
from storage.tables import read_splits
from tasks.config import TrainSettings
from tasks.datasets import DATASETS
from tasks.datasets.spec import SPLITS

# A busy machine must fail no test: how long an example takes is no property of the code.
settings.register_profile("retrain", deadline=None)
settings.load_profile("retrain")

TINY_ROWS = {"imdb": 96}
"""Rows a split of the tiny tables; IMDB's fit one batch, so that one width is compiled. Others need room for a window."""
TINY_ROWS_OTHERWISE = 2_000


GROUP_OF_FILE = {
    **dict.fromkeys(
        (
            "test_bad_input",
            "test_command",
            "test_end_to_end",
            "test_json_answers",
            "test_looking_commands",
            "test_predict_command",
            "test_station_mirror",
        ),
        "command",
    ),
    **dict.fromkeys(
        (
            "test_approval",
            "test_collect",
            "test_comparison",
            "test_damage",
            "test_load_check",
            "test_model_card",
            "test_moved_store",
            "test_predict",
            "test_promote",
            "test_refit",
            "test_rollback",
            "test_seen",
            "test_side_by_side",
            "test_training",
            "test_verify",
        ),
        "trained",
    ),
    **dict.fromkeys(("test_service", "test_open_service", "test_notify", "test_waiting_approval"), "services"),
    **dict.fromkeys(
        (
            "test_ui",
            "test_proxy_ui",
            "test_passwords",
            "test_team_service",
            "test_living_ui",
            "test_handover_ui",
            "test_run_controls_ui",
            "test_hosts",
        ),
        "services with pages",
    ),
}
"""Files whose tests share what takes long to make, and so go to one worker; any other file goes by itself.

Each file of the service starts one of its own: two servers and two workers, which keep a quarter of a core busy while they wait.
More than two at once make each other late on a machine of two cores.
"""

LONGEST_GROUPS_FIRST = (
    "services",
    "services with pages",
    "test_tutorials",
    "test_living_tutorial",
    "test_living_series",
    "every_variant",
    "command",
    "test_killed_run",
    "test_many_deciders",
    "test_artifacts",
    "test_serve",
    "trained",
    "test_variants",
)
"""All workers would wait for a long group that comes last. Groups that are not named follow in the order of their files."""

MAX_WORKERS = 8


def group_of(nodeid: str) -> str:
    """Name the group of tests that go to one worker together."""
    file, _, test = nodeid.partition("::")
    if test.startswith("test_every_variant") or "[every_variant_run" in test:
        return "every_variant"
    return GROUP_OF_FILE.get(Path(file).stem, Path(file).stem)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out groups, in the order that the tests are sorted in. `--dist loadgroup` of xdist 3.8 has no effect with pytest 9."""
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False
    return GroupScheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run a worker a core."""
    return min(os.cpu_count() or 1, MAX_WORKERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: position for position, name in enumerate(LONGEST_GROUPS_FIRST)}
    items.sort(key=lambda item: order.get(group_of(item.nodeid), len(order)))


def pytest_configure(config: pytest.Config) -> None:
    # TensorFlow's tensors lack what numpy 2 asks of `np.array`; Keras asks it of every weight that it reads.
    config.addinivalue_line("filterwarnings", "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(FailuresAtOnce(config))


class FailuresAtOnce:
    """Name a test as soon as it fails: a run that is cut off by a time limit never comes to its summary."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            terminal = self._config.pluginmanager.get_plugin("terminalreporter")
            terminal.write_line(f"\n{report.when} of {report.nodeid} failed: {str(report.longrepr)[-600:]}")


_told_by_workers: list[str] = []


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker has to tell, such as the tasks that Prefect tried again."""
    _told_by_workers.extend(getattr(node, "workeroutput", {}).get("tried_again", ()))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many of the planted faults the contracts found, whatever processes ran the tests."""
    ran = {outcome: terminalreporter.stats.get(outcome, []) for outcome in ("passed", "failed")}
    found, missed = (sum("test_a_planted_fault_is_found[" in report.nodeid for report in ran[outcome]) for outcome in ran)
    if found + missed:
        terminalreporter.write_line(f"planted {found + missed}, found {found}")
    for line in _told_by_workers:
        terminalreporter.write_line(line)
    if terminalreporter.config.option.durations:
        _tell_longest_groups(terminalreporter)


def _tell_longest_groups(terminalreporter: Any) -> None:
    """Say how long the groups took that a worker runs as a whole: what `--durations` says of single tests."""
    seconds: dict[str, float] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "duration") and hasattr(report, "nodeid"):
                group = group_of(report.nodeid)
                seconds[group] = seconds.get(group, 0.0) + report.duration
    longest = sorted(seconds, key=lambda group: -seconds[group])[: terminalreporter.config.option.durations]
    terminalreporter.write_sep("=", "longest groups")
    for group in longest:
        terminalreporter.write_line(f"{seconds[group]:7.1f}s {group}")


@dataclass(frozen=True)
class Samples:
    """A store in which the sample of every data set is published."""

    store: Store
    tables: Mapping[str, TableRef]


@dataclass(frozen=True)
class Trained:
    """A store and a registry with two versions of the Jena sample's model: a better and a worse one."""

    store: Store
    registry: Any
    table: TableRef
    better: ModelRef
    worse: ModelRef
    better_settings: TrainSettings


@pytest.fixture(scope="session", autouse=True)
def environment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep every test away from a person's own store, and set TensorFlow's threads before a first test computes."""
    os.environ[HOME_VARIABLE] = str(tmp_path_factory.mktemp("home"))
    if any("keras" in getattr(item, "fixturenames", ()) for item in request.session.items):
        from tasks.models.device import prepare_device

        prepare_device(1, require_gpu=False)


@pytest.fixture(scope="session")
def keras(environment: None) -> Any:
    """Keras, with the one thread that the project trains with."""
    import keras

    return keras


@pytest.fixture(scope="session")
def preloaded_processes() -> None:
    """Let fresh processes come from one that has imported Keras, as they do in a run: each import takes seconds."""
    from flows.runtime.process_pool import start_importing

    start_importing()


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """The samples, published as a run publishes them; read them only."""
    store = Store.at(tmp_path_factory.mktemp("samples"))
    return Samples(store, {name: publish_sample(name, store=store) for name in DATASETS})


@pytest.fixture(scope="session")
def tiny(samples: Samples) -> Callable[[str], tuple[dict[str, pa.Table], dict[str, Any]]]:
    """The first rows of each split of a sample, its extra tables, and its normalisation."""

    def read(dataset: str) -> tuple[dict[str, pa.Table], dict[str, Any]]:
        tables, manifest = read_splits(samples.tables[dataset], store=samples.store)
        rows = TINY_ROWS.get(dataset, TINY_ROWS_OTHERWISE)
        return tables | {name: tables[name].slice(0, rows) for name in SPLITS}, manifest["normalisation"]

    return read


@pytest.fixture(scope="session")
def trained(keras: Any, samples: Samples) -> Trained:
    """Two real trainings on the Jena sample, registered; tests may set aliases and write the log, and start by removing both."""
    from storage.registry import Registry
    from tasks.training import fitting, registering, scoring

    store, table = samples.store, samples.tables["jena"]
    registry = Registry.open(store)

    def train(settings: TrainSettings) -> ModelRef:
        fitted = fitting.fit_variant(
            table, variant="gru_baseline", settings=settings, store=store, on_progress=lambda progress: None
        )
        evaluation = scoring.evaluate_fitted(fitted, store=store)
        return registering.register_fitted(fitted, evaluation=evaluation, registry=registry, store=store, flow_run_id="run-1")

    better = TrainSettings(epochs=2, steps_per_epoch=25)
    worse = TrainSettings(epochs=1, steps_per_epoch=1)
    return Trained(store, registry, table, better=train(better), worse=train(worse), better_settings=better)
