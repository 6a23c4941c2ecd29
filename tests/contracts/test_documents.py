"""The documents say what the code does, and every file keeps the rules that no linter knows."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml

from flows.cli.app import app
from flows.runtime.service import Service
from storage.environment import Environment, variable
from storage.layout import Store
from tasks.datasets import DATASETS
from tasks.datasets.request import TableRequest
from tasks.models import PROBLEMS
from tasks.models.spec import Variant
from tasks.promotion.rule import Outcome

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = {page.stem: page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs" / "reference").glob("*.md"))}
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
CODE = sorted(path for folder in ("flows", "tasks", "storage") for path in (ROOT / folder).rglob("*.py"))


def commands_of(group: Any, *, above: str = "") -> dict[str, Any]:
    """Return the commands of a group by the words that call them, those of its groups too."""
    commands = {}
    for name, command in group.commands.items():
        nested = hasattr(command, "commands")
        commands |= commands_of(command, above=f"{above}{name} ") if nested else {f"{above}{name}": command}
    return commands


COMMANDS = commands_of(typer.main.get_command(app))
GROUPS = {name.split()[0] for name in COMMANDS if " " in name}

MAX_LINES = 400


def table_rows(text: str, *, columns: int) -> list[list[str]]:
    """Return the cells of every table row of that many columns, without heads and rules."""
    rows = []
    for line in text.splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == columns and not set(cells[0]) <= {"-"}:
            rows.append(cells)
    return rows


def blocks(document: Path, *, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def prose(document: Path) -> str:
    """Return a document without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def tracked_files() -> list[Path]:
    """Return the files that are or would be under version control."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout")
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


# Tables of data sets and variants.


# A data set or a variant that somebody adds needs no row; what the pages have a row of is described rightly, and wholly.
DESCRIBED = tuple(name for name in DATASETS if f"\n| `{name}` |" in REFERENCE["data-sets"])


def test_the_projects_own_data_sets_are_described() -> None:
    assert {"jena", "imdb"} <= set(DESCRIBED)


@pytest.mark.parametrize("dataset", DESCRIBED)
def test_the_variants_table_says_what_the_variants_are(dataset: str) -> None:
    def row(variant: Variant) -> list[str]:
        unit = PROBLEMS[dataset].scoring.validation.label
        return [
            f"`{dataset}`",
            f"`{variant.name}`",
            variant.summary,
            str(variant.epochs),
            str(variant.steps_per_epoch or "one pass"),
            str(variant.batch_size),
            "-" if variant.tutorial_best is None else f"{variant.tutorial_best} ({unit})",
        ]

    written = [cells for cells in table_rows(REFERENCE["variants"], columns=7) if cells[0] == f"`{dataset}`"]
    rows = [row(variant) for variant in PROBLEMS[dataset].variants.values() if not variant.is_baseline]
    assert {f"`{name}`" for name in PROBLEMS[dataset].default_variants} <= {cells[1] for cells in written}
    assert [cells for cells in rows if cells in written] == written
    references = [cells for cells in table_rows(REFERENCE["variants"], columns=3) if cells[0] == f"`{dataset}`"]
    expected = [PROBLEMS[dataset].variants[name] for name in PROBLEMS[dataset].baselines]
    assert references == [[f"`{dataset}`", f"`{variant.name}`", variant.summary] for variant in expected]
    assert f"`{PROBLEMS[dataset].naive}`" in REFERENCE["variants"]


def test_the_data_sets_table_names_every_source_and_its_files() -> None:
    rows = table_rows(REFERENCE["data-sets"], columns=4)
    written = {(cells[0].strip("`"), *re.findall(r"`([^`]+)`", cells[1]), "(default)" in cells[1]) for cells in rows}
    described = [DATASETS[name] for name in DESCRIBED]
    expected = {(spec.name, source, source == spec.default_source) for spec in described for source in spec.sources}
    assert expected <= written
    for spec in described:
        for file in spec.sources[spec.default_source].files({}, date(2026, 3, 10)):
            assert file.name in REFERENCE["data-sets"]
            if file.size_bytes is not None:
                assert f"{file.size_bytes:,} bytes" in REFERENCE["data-sets"]


@pytest.mark.parametrize("dataset", DESCRIBED)
def test_the_repairs_table_has_every_rule_and_its_limit(dataset: str, tmp_path: Path) -> None:
    spec = DATASETS[dataset]
    parsed = spec.parse({path.name: path for path in spec.simulate(tmp_path)}, TableRequest(source="sample"))
    rows = [cells for cells in table_rows(REFERENCE["data-sets"], columns=4) if cells[0] == f"`{dataset}`" and "% of" in cells[3]]
    written = {cells[1].strip("`"): cells[3].split(" of ")[0] for cells in rows}
    assert written == {repair.name: f"{100 * repair.limit:g} %" for repair in parsed.repairs}


# The command.


def options(command: Any) -> set[str]:
    """Return the long options of a command, without `--help`."""
    return {name for parameter in command.params for name in parameter.opts if name.startswith("--")} - {"--help"}


HOW_TO = "\n".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs/how-to").glob("*.md")))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_reference_and_every_option_there_or_on_a_page(name: str) -> None:
    text = REFERENCE["commands"]
    assert f"`retrain {name}" in text
    missing = {option for option in options(COMMANDS[name]) if f"`{option}`" not in text + HOW_TO}
    assert not missing, f"neither the reference nor a page of docs/how-to tells of {missing}"


def test_the_reference_tells_of_no_option_that_is_not_there() -> None:
    cells = [row[0] for row in table_rows(REFERENCE["commands"], columns=2)]
    written = set(re.findall(r"`(--[a-z-]+)`", " ".join(cells)))
    assert written == options(COMMANDS["run"])


def retrain_lines() -> Iterator[str]:
    """Yield every `retrain` command line of the documents: in shell blocks, and between backticks."""
    for document in DOCUMENTS:
        for line in "\n".join(blocks(document, language="sh")).splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words[:1] == ["retrain"]:
                yield shlex.join(words)
        for span in re.findall(r"`(?:\.venv/bin/)?(retrain [^`]+)`", prose(document)):
            if "[" not in span:
                yield span


@pytest.mark.parametrize("line", sorted(set(retrain_lines())))
def test_every_command_line_parses(line: str) -> None:
    name, *arguments = shlex.split(line)[1:]
    if arguments and f"{name} {arguments[0]}" in COMMANDS:
        name, *arguments = f"{name} {arguments[0]}", *arguments[1:]
    if name in GROUPS and not arguments:
        return
    if name in ("--help", "--version", "--install-completion"):
        return
    assert name in COMMANDS, f"{line!r}: there is no command {name!r}"
    if not arguments:  # the command's name in a sentence
        return
    context = COMMANDS[name].make_context(name, [word for word in arguments if word != "--help"])
    # The data set and the network that the tutorials add.
    assert (context.params.get("dataset") or "all") in {*DATASETS, "all", "load"}
    variants = context.params.get("variants") or "all"
    registered = {variant for problem in PROBLEMS.values() for variant in problem.variants}
    assert set(variants.split(",")) <= registered | {"all", "gru_wide"}


def test_there_are_command_lines_to_parse() -> None:
    assert sum(line.startswith("retrain run") for line in retrain_lines()) >= 3


# Configuration, the store, the Makefile.


def configuration() -> dict[str, str]:
    """Return the default, as it is written, of every variable in the table of variables, wherever it stands."""
    rows = [row for document in DOCUMENTS for row in table_rows(document.read_text(encoding="utf-8"), columns=3)]
    written: dict[str, str] = {}
    for names, default, _ in rows:
        variables = re.findall(r"`([A-Z]+_[A-Z_]+)`", names)
        defaults = re.findall(r"`([^`]+)`", default)
        written |= dict(zip(variables, defaults if len(defaults) == len(variables) else [default] * len(variables), strict=True))
    return written


def test_the_table_of_variables_has_every_variable_of_the_code() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in CODE)
    read = set(re.findall(r"environ(?:\.get|\.setdefault)\(\s*\"([A-Z_]+)\"", code))
    read |= set(re.findall(r"^[A-Z_]*VARIABLE = \"([A-Z_]+)\"", code, re.MULTILINE))
    for name in ("flows/__init__.py", "storage/library_variables.py"):
        read |= set(re.findall(r"\"([A-Z_]+)\": ", (ROOT / name).read_text(encoding="utf-8")))
    assert {"MLFLOW_TRACKING_URI", "PREFECT_API_URL", "DO_NOT_TRACK"} <= read
    missing = read - configuration().keys()
    assert not missing, f"the table of variables lacks {missing}"


def test_the_table_of_variables_has_the_projects_own_with_their_defaults(tmp_path: Path) -> None:
    written = {name: default for name, default in configuration().items() if name.startswith("RETRAIN_")}
    fields = Environment.model_fields
    for_its_processes = {name for name in Service.at(Store.at(tmp_path)).environment() if name.startswith("RETRAIN_")}
    assert written.keys() == {variable(name) for name in fields} | for_its_processes
    for name, field in fields.items():
        if field.default is not None:
            assert written[variable(name)] == str(field.default)


def test_the_service_sets_every_variable_of_its_configuration(tmp_path: Path) -> None:
    configuration = (ROOT / "flows/runtime/configuration/supervisord.conf").read_text(encoding="utf-8")
    assert set(re.findall(r"%\(ENV_(\w+)\)s", configuration)) <= Service.at(Store.at(tmp_path)).environment().keys()


def test_the_tree_of_the_store_is_the_one_that_is_built(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    built = {
        "service",
        *(path.relative_to(tmp_path).parts[0] for path in (store.scratch, store.mlflow_folder, store.prefect_folder)),
        *(
            Path(str(path)).relative_to(tmp_path).parts[0]
            for path in (
                store.raw_folder("jena"),
                store.table_folder("jena", "0f"),
                store.report_folder("jena", "0f"),
                store.checkpoint_folder("0f", "9c"),
                store.evaluation("0f", "9c"),
                store.promotions("jena"),
                store.predictions_folder("jena"),
                store.monitoring_folder("jena"),
            )
        ),
    }
    tree = re.search(r"^```\n(.*?)^```", REFERENCE["store"], re.MULTILINE | re.DOTALL)
    assert tree
    assert {line.split("/")[0] for line in tree[1].splitlines()} == built


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"run", "test", "test-all", "check", "lock", "clean"} <= targets
    lines = [line for block in blocks(document, language="sh") for line in block.splitlines()]
    named = {found[1] for line in lines if (found := re.match(r"make ([a-z-]+)", line))}
    named |= set(re.findall(r"`make ([a-z-]+)[^`]*`", prose(document)))
    assert named <= targets, f"{document.name} names {named - targets}, which the Makefile does not have"


# Links and snippets.


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        place = (document.parent / name).resolve() if name else document
        assert place.exists(), f"{document.name} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(place), f"{document.name} links to {target}, and there is no such heading"


# The blocks of the tutorials are written into a copy of the project and run there: `tests/tutorials`.
@pytest.mark.parametrize("document", [path for path in DOCUMENTS if path.parent.name != "tutorials"], ids=lambda path: path.name)
def test_python_snippets_import_names_that_exist(document: Path) -> None:
    for snippet in blocks(document, language="python"):
        for node in ast.walk(ast.parse(snippet)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                absent = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                assert not absent, f"{document.name}: {node.module} has no {absent}"
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    assert importlib.util.find_spec(alias.name), f"{document.name}: no module {alias.name}"


DECISIONS = sorted(ROOT.glob("docs/decisions/[0-9]*.md"))


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_context_choice_and_cost(decision: Path) -> None:
    text = decision.read_text(encoding="utf-8")
    assert text.startswith(f"# {decision.name[:4]}: ")
    places = [text.find(f"**{part}.**") for part in ("Context", "Choice", "What it costs")]
    assert -1 not in places
    assert places == sorted(places)


def test_the_list_of_decisions_has_each_with_its_title() -> None:
    rows = table_rows((ROOT / "docs/decisions/index.md").read_text(encoding="utf-8"), columns=2)[1:]
    titles = [decision.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").partition(": ") for decision in DECISIONS]
    expected = [[number, f"[{title}]({path.name})"] for path, (number, _, title) in zip(DECISIONS, titles, strict=True)]
    assert rows == expected


# The README, the site, and the map of the code.


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 130


def pages_of(entries: Any) -> Iterator[str]:
    """Yield the pages of a navigation, in order."""
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from pages_of(value) if isinstance(value, list) else [value]


def test_the_site_leads_to_every_page() -> None:
    navigation = list(pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert len(set(navigation)) == len(navigation)
    assert set(navigation) | {f"decisions/{path.name}" for path in DECISIONS} == pages


def test_the_map_of_the_code_has_every_room_and_begins_it_with_a_file_that_is_there() -> None:
    text = (ROOT / "docs/explanation/map-of-the-code.md").read_text(encoding="utf-8")
    rooms = [[cell.strip("`") for cell in cells] for cells in table_rows(text, columns=3)[1:]]
    packages = {path.parent for path in CODE if path.name == "__init__.py"}
    data_sets = {path.parent for path in (ROOT / "tasks" / "datasets").glob("*/spec.py")}
    drawn = {ROOT / "tasks" / "reporting" / "figures", ROOT / "tasks"}
    assert {room for room, _, _ in rooms} == {str(path.relative_to(ROOT)) for path in packages - data_sets - drawn}
    assert [(room, begin) for room, _, begin in rooms if not begin.startswith(f"{room}/") or not (ROOT / begin).is_file()] == []


def test_the_page_on_champions_has_every_outcome_of_a_decision() -> None:
    text = (ROOT / "docs/explanation/how-a-champion-is-chosen.md").read_text(encoding="utf-8")
    outcomes = {cells[0].strip("`") for cells in table_rows(text.partition("## What a run decides")[2], columns=3)}
    assert set(get_args(Outcome)) <= outcomes


# The glossary.

GLOSSARY = ROOT / "docs/explanation/glossary.md"
TERMS = table_rows(GLOSSARY.read_text(encoding="utf-8"), columns=3)[1:]


def exists_in_code(name: str) -> bool:
    """Tell whether a name is a tracked file, or a module with the attributes and fields that follow its dots."""
    if (ROOT / name).is_file():
        return True
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            fields = {**getattr(value, "__annotations__", {}), **getattr(value, "__dataclass_fields__", {})}
            if not hasattr(value, part) and part not in fields:
                return False
            value = getattr(value, part, None)
        return True
    return False


def test_the_check_of_names_sees_what_is_not_there() -> None:
    assert exists_in_code("tasks.models.spec.Budget.epochs")
    assert not exists_in_code("tasks.models.spec.Budget.epoch")
    assert not exists_in_code("tasks.models.nowhere.Budget")
    assert not exists_in_code("nowhere.yaml")


@pytest.mark.parametrize("cells", TERMS, ids=lambda cells: cells[0])
def test_the_glossary_names_code_that_exists(cells: list[str]) -> None:
    term, meaning, where = cells
    names = re.findall(r"`([^`]+)`", where)
    assert names, f"{term} does not say where it stands"
    assert [name for name in names if not exists_in_code(name)] == []
    assert meaning.endswith("."), f"{term} is explained in one sentence"


def test_the_glossary_is_alphabetical_and_has_each_term_once() -> None:
    terms = [cells[0] for cells in TERMS]
    assert len(terms) >= 50
    assert terms == sorted(set(terms), key=str.casefold)


# Rules for every file.

# Put together here, so that this file itself does not hold them.
FORBIDDEN = tuple(
    "".join(parts)
    for parts in (
        ("/", "work/"),
        ("/", "root/"),
        ("/", "tmp/"),
        ("pypi", ".org"),
        ("python", "hosted.org"),
        ("anaconda", ".org"),
        ("test", ".pypi"),
    )
)


def test_no_file_names_a_path_of_one_machine_or_the_host_of_a_package_registry() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {text}"
        for path in tracked_files()
        for text in FORBIDDEN
        if text.encode() in path.read_bytes()
    }
    assert not found


def test_no_file_of_the_code_is_too_long() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in CODE}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}
