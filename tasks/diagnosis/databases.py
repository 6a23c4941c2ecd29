"""Check the databases of MLflow and Prefect: whether they answer, their schema, and where they say that files lie."""

from __future__ import annotations

from collections.abc import Iterator

from storage.errors import SettingError
from storage.redaction import without_secrets
from storage.schema import Library, dialect_of, migrations_of, reading, revision_of
from storage.upgrade import DRIVER, newer_text, upgrade_command
from tasks.diagnosis.finding import Finding

_REACH = "start it, or correct its address"
# Where MLflow records where files lie. What begins with `file:` or `/` is the path of one machine.
_LOCATIONS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "source",
}


def check_database(library: Library, address: str) -> Iterator[Finding]:
    """Compare the schema of a database with that of the installed library."""
    try:
        dialect = dialect_of(address)
        migrations = migrations_of(library, dialect=dialect)
    except SettingError as error:
        yield Finding("databases", "fault", f"{library}: {error}")
        return
    where = "SQLite" if dialect == "sqlite" else without_secrets(address)
    try:
        revision = revision_of(address)
    except OSError as error:
        yield Finding("databases", "fault", f"{library}: {error}", _REACH)
        return
    except ImportError as error:
        yield Finding("databases", "fault", f"{library}: {where} cannot be read ({error})", DRIVER)
        return
    state = migrations.state_of(revision)
    if state == "empty":
        yield Finding("databases", "ok", f"{library} has no database yet ({where}): the first run makes it")
    elif state == "current":
        yield Finding("databases", "ok", f"{library} on {where} has schema {revision}, that of the installed version")
    elif state == "newer":
        yield Finding("databases", "fault", newer_text(library, revision=str(revision), where=where))
    elif dialect == "sqlite":
        text = f"{library} on {where} has schema {revision}, expected {migrations.head}"
        yield Finding("databases", "warning", text, "nothing: the next run migrates it and keeps a backup beside it")
    else:
        text = f"{library} on {where} has schema {revision}, expected {migrations.head}"
        yield Finding("databases", "fault", text, f"back it up, then {upgrade_command(library)}")


def check_locations(address: str) -> Iterator[Finding]:
    """Count the places of files that are absolute paths, which are wrong as soon as the store is somewhere else."""
    import sqlalchemy as sa

    try:
        if revision_of(address) is None:
            return
        with reading(address) as connection:
            tables = set(sa.inspect(connection).get_table_names())
            absolute = sum(
                connection.execute(
                    sa.text(f"SELECT count(*) FROM {table} WHERE {column} LIKE 'file:%' OR {column} LIKE '/%'")
                ).scalar_one()
                for table, column in _LOCATIONS.items()
                if table in tables
            )
    except (OSError, ImportError):  # told by the check of the schema
        return
    if absolute:
        text = f"MLflow records {absolute} places of files as absolute paths: they are lost when the store moves"
        yield Finding(
            "databases", "warning", text, "nothing: they are made right when the registry is opened next, as by retrain models"
        )
    else:
        yield Finding("databases", "ok", "MLflow records no absolute path")
