"""The project's own variables of the environment: names, defaults, bounds and meaning."""

from __future__ import annotations

import os
from datetime import date
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from storage.errors import SettingError
from storage.redaction import hide_user

_PREFIX = "RETRAIN_"

Port = Annotated[int, Field(ge=1, le=65_535)]


class Environment(BaseSettings):
    """The variables `RETRAIN_*`; an empty one counts as not set."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, extra="ignore", frozen=True)

    home: str = Field("./var", description="The store: a folder, or an fsspec URL such as `s3://bucket/prefix`.")
    database_url: SecretStr | None = Field(
        None, description="PostgreSQL for Prefect and MLflow, such as `postgresql://USER:PASSWORD@HOST/retrain`."
    )
    mirror: str | None = Field(None, description="Folder or URL of a mirror with `SHA256SUMS`.")
    require_gpu: bool | None = Field(None, description="Whether every training on this host refuses a CPU.")
    host: str = Field("127.0.0.1", description="Address on which the service listens.")
    public_host: str | None = Field(None, description="Name under which others reach the service.")
    prefect_port: Port = Field(4200, description="Port of Prefect in the service.")
    mlflow_port: Port = Field(5000, description="Port of MLflow in the service.")
    docs_port: Port = Field(5001, description="Port of the reports in the service.")
    auth: str | None = Field(None, description="User of the service, and the file with the password: `USER:FILE`.")
    prefect_address: str | None = Field(None, description="Address of Prefect for people, such as that of a proxy.")
    mlflow_address: str | None = Field(None, description="Address of MLflow for people; base of the links in reports.")
    docs_address: str | None = Field(
        None, description="Address of reports and Data Docs for people; base of the links in reports."
    )
    today: date | None = Field(None, description="Day that counts as today for a source that goes on, such as `2026-11-25`.")

    @classmethod
    def read(cls) -> Self:
        """Read the variables as they are now.

        Raises:
            SettingError: A variable has a value that it cannot have.
        """
        try:
            return cls()
        except ValidationError as error:
            first = error.errors()[0]
            name, value = str(first["loc"][0]), first["input"]
            raise SettingError(
                f"{variable(name)} is {value!r}, expected {_expected(name)}: correct it, or unset it for {_default(name)}"
            ) from None


def variable(field: str) -> str:
    """Return the name of the variable that a field of `Environment` is read from."""
    return _PREFIX + field.upper()


def _expected(field: str) -> str:
    if field == "today":
        return "a day such as 2026-11-25"
    return "a port from 1 to 65535" if field.endswith("_port") else "true or false"


def _default(field: str) -> str:
    default = Environment.model_fields[field].default
    return "its default" if default is None else str(default)


# RETRAIN_MIRROR has a check of its own, where it is used.
ADDRESSES = (
    *(variable(field) for field in ("home", "database_url", "prefect_address", "mlflow_address", "docs_address")),
    "PREFECT_API_URL",
    "PREFECT_UI_API_URL",
    "PREFECT_SERVER_UI_API_URL",
    "MLFLOW_TRACKING_URI",
    "AWS_ENDPOINT_URL",
)


def require_sound_addresses() -> None:
    """Look whether every variable that may name an address names one that can be read.

    Raises:
        SettingError: One cannot. A password in it is not shown, in whatever form it is written.
    """
    for name in ADDRESSES:
        value = os.environ.get(name, "")
        try:
            _ = urlsplit(value).port if "://" in value else None
        except ValueError:  # its text may hold a part of a password
            raise SettingError(
                f"{name} is {hide_user(value)!r}, expected an address like http://HOST:PORT/PATH: correct it, or unset it"
            ) from None
