"""What holds after every fault: no work is lost, done twice or left hanging, and registry, log and store say the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from team import Team, wait_for

from storage.registry import CHAMPION, PREVIOUS
from tasks.promotion.log import applied_keys, final_decisions, read_log

# A lease lasts 90 s after the death of its holder.
IS_QUIET_S = 300
_WORKING = ("RUNNING", "PENDING", "CANCELLING", "PAUSED")


def faults_left(team: Team, *, retrains: Sequence[str], model: str) -> list[str]:
    """Return what is wrong after faults, one sentence each; nothing if all is well.

    Args:
        team: The installation.
        retrains: Runs of `retrain` that have ended, each of which trains something that was not trained before.
        model: The registered model that they train.
    """
    wait_for_quiet(team)
    return [
        *_of_runs(team, retrains),
        *_of_registry(team, model, versions=len(retrains)),
        *_of_log(team, model),
        *_of_store(team),
    ]


def wait_for_quiet(team: Team) -> None:
    """Wait until every lease of a dead holder has expired and no run is on its way."""
    wait_for(lambda: not _unfinished(team) and not _leased(team), IS_QUIET_S, lambda: [*_unfinished(team), *_leased(team)])


def _unfinished(team: Team) -> list[str]:
    """Runs that are on their way; those of a schedule, whose time has not come, are not."""
    runs = team.runs(state={"type": {"any_": [*_WORKING, "SCHEDULED"]}})
    return [f"{run['name']} is {run['state_name']}" for run in runs if run["state_type"] in _WORKING or not run["auto_scheduled"]]


def _leased(team: Team) -> list[str]:
    limits = team.all_of("/v2/concurrency_limits/filter", {})
    return [f"{limit['name']} has {limit['active_slots']} leases" for limit in limits if limit["active_slots"]]


def _of_runs(team: Team, retrains: Sequence[str]) -> list[str]:
    states = {run_id: team.run(run_id) for run_id in retrains}
    return [f"{run['name']} ended as {run['state_name']}" for run in states.values() if run["state_type"] != "COMPLETED"]


def _of_registry(team: Team, model: str, *, versions: int) -> list[str]:
    """Each training has one complete version, and nothing of MLflow is unfinished."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    listed = list(client.search_model_versions(f"name = '{model}'", max_results=1000))
    keys = Counter(str(version.tags.get("training_key")) for version in listed)
    wrong = [f"training {key} has {count} versions" for key, count in keys.items() if count > 1]
    wrong += [f"version {version.version} is incomplete" for version in listed if version.tags.get("complete") != "true"]
    # Each run trains its network; the linear baselines, which have no seed, are trained once.
    networks = [version for version in listed if version.tags.get("variant") == "gru_baseline" and "refit_of" not in version.tags]
    if len(networks) != versions:
        wrong.append(f"{len(networks)} networks for {versions} runs")
    experiment = client.get_experiment_by_name(model)
    assert experiment
    running = client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")
    return wrong + [f"MLflow's run {run.info.run_name} is running" for run in running]


def _of_log(team: Team, model: str) -> list[str]:
    """Each decision stands once in the log, and the aliases are where the last one that was applied puts them."""
    lines = log_lines(team, model)
    decided = Counter(line["key"] for line in lines if "decision" in line and not {"moves", "applied"} & set(line))
    applied = Counter(line["applied"] for line in lines if "applied" in line)
    wrong = [f"decision {key} is logged {count} times" for key, count in decided.items() if count > 1]
    wrong += [f"decision {key} is applied {count} times" for key, count in applied.items() if count > 1]
    wrong += [f"decision {key} was not applied" for key in decided if key not in applied]
    promotions = [
        decision
        for key, decision in final_decisions(lines).items()
        if decision["outcome"] == "promoted" and key in applied_keys(lines)
    ]
    aliases = {alias: version.version for version in team.registry.versions(model) for alias in version.aliases}
    if promotions:
        expected = {CHAMPION: promotions[-1].get("refit") or promotions[-1]["candidate"], PREVIOUS: promotions[-1]["champion"]}
        for alias, name in expected.items():
            if aliases.get(alias) != (int(name.removeprefix("v")) if name else None):
                wrong.append(f"{alias} is v{aliases.get(alias)}, but by the log it is {name}")
    elif CHAMPION in aliases:
        wrong.append("there is a champion that the log knows nothing of")
    return wrong


def log_lines(team: Team, model: str) -> list[Any]:
    """The log of decisions of a model, oldest first."""
    return list(read_log(model, registry=team.registry, store=team.store))


def checkpoint_files(team: Team) -> list[str]:
    """Every file of a training that is not at its end. Some stores show folders that have none any more."""
    folder = team.store.checkpoint_folder("any", "any").parent
    return sorted(str(path) for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


def _of_store(team: Team) -> list[str]:
    """No checkpoint is left, and every table has its manifest."""
    store = team.store
    left = checkpoint_files(team)
    tables = store.table_folder("jena", "any").parent
    folders = [path for path in tables.iterdir() if path.is_dir() and not path.name.startswith(".")]
    halves = [path.name for path in folders if not (path / "manifest.json").exists()]
    return [f"{name} is left" for name in left] + [f"table {name} has no manifest" for name in halves]
