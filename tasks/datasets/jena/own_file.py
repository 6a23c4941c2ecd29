"""A file of a person's own as a source: which file, and under which names its columns stand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import ConfigDict, Field, ValidationError, field_validator

from storage.download import is_web_address
from storage.errors import SettingError
from tasks.datasets.jena.layout import AUTO, STATION_LAYOUT, Layout, header_key
from tasks.datasets.jena.physics import LAYOUT
from tasks.datasets.jena.stamps import checked_format
from tasks.datasets.jena.unpack import MAX_UNPACKED_BYTES
from tasks.datasets.request import mapping_of_text
from tasks.datasets.spec import SourceFile, SourceOptions

_CANONICAL = {header_key(accepted): column.name for column in LAYOUT for accepted in (column.name, column.header)}
_MAX_NAME = 100


class OwnFileOptions(SourceOptions):
    """Which file of a person's own is read, and under which names its columns stand."""

    model_config = ConfigDict(title="Options of file")

    path: str | None = Field(
        None,
        min_length=1,
        max_length=4096,
        description="A csv, a csv in a zip or gz, or a Parquet file with a row every 10 minutes: a path on the host that runs "
        "the flow, or an http(s) or file URL.",
        json_schema_extra={"flag": "--input", "address": True},
    )
    columns: dict[str, str] | None = Field(
        None,
        max_length=len(LAYOUT),
        description="Column of the file for each reading that has another name there than in the station's files, such as "
        "temperature_degc=Temp. In text: reading=column,reading=column.",
        json_schema_extra={"flag": "--columns"},
    )
    stamp_column: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Column of the time stamps, which mark the end of their 10 minutes. None: Date Time, date or timestamp.",
        json_schema_extra={"flag": "--stamp-column"},
    )
    stamp_format: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="Form of the time stamps, such as %d.%m.%Y %H:%M. None: told from the stamps, if they leave no doubt.",
        json_schema_extra={"flag": "--stamp-format"},
    )

    @field_validator("columns", mode="before")
    @classmethod
    def _read_text(cls, value: Any) -> Any:
        """Take `reading=column,reading=column` for a mapping."""
        return mapping_of_text(value)

    @field_validator("columns")
    @classmethod
    def _name_readings(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        """Return the mapping by canonical names, each of which and each column occurs once."""
        if value is None:
            return None
        named: dict[str, str] = {}
        for name, header in value.items():
            canonical = _CANONICAL.get(header_key(name))
            if canonical is None:
                choices = ", ".join(column.name for column in LAYOUT)
                raise ValueError(f"unknown reading {name!r}: choose {choices}; the stamps have a setting of their own")
            if canonical in named:
                raise ValueError(f"{canonical} is named twice: name each reading once")
            if not header.strip():
                raise ValueError(f"{canonical} has no column: name one")
            if other := next((each for each, taken in named.items() if header_key(taken) == header_key(header)), None):
                raise ValueError(f"{header!r} is the column of {other} and of {canonical}: name a column for each")
            named[canonical] = header
        return named

    @field_validator("stamp_format")
    @classmethod
    def _check_format(cls, value: str | None) -> str | None:
        return None if value is None or value == AUTO else checked_format(value)


def own_files(options: Mapping[str, Any], today: date) -> tuple[SourceFile, ...]:
    """Return the one file that a person names.

    Raises:
        SettingError: No file is named, its address is of another kind than http(s) or file, or a setting of it cannot be.
    """
    del today  # a person says when the file has changed
    address = _checked(options).path
    if address is None:
        raise SettingError("path is None: name a csv, a zip with one csv, or a Parquet file")
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", address)
    if scheme and scheme[1].lower() not in {"http", "https", "file"}:
        raise SettingError(f"path begins with {scheme[0]!r}: name a file of this host, or an http, https or file URL")
    return (SourceFile(name=_safe_name(address), urls=(address,), max_bytes=MAX_UNPACKED_BYTES, growing=True, own=True),)


def layout_of(options: Mapping[str, Any]) -> Layout:
    """Return the station's layout with the names and the form of stamps that a person set.

    Raises:
        SettingError: A setting cannot be.
    """
    checked = _checked(options)
    return Layout(
        columns={**STATION_LAYOUT.columns, **{name: (header,) for name, header in (checked.columns or {}).items()}},
        stamp_columns=STATION_LAYOUT.stamp_columns if checked.stamp_column is None else (checked.stamp_column,),
        stamp_format=checked.stamp_format or AUTO,
    )


def _checked(options: Mapping[str, Any]) -> OwnFileOptions:
    try:
        return OwnFileOptions.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingError(f"{first['loc'][0]} is {first['input']!r}: {first['msg']}") from None


def _safe_name(address: str) -> str:
    """Return the last part of an address with only letters, digits, `.`, `_` and `-` in it: no query, no folder."""
    is_url = is_web_address(address) or address.lower().startswith("file://")
    path = unquote(urlsplit(address).path) if is_url else address
    last = re.split(r"[/\\]", path.rstrip("/\\"))[-1]
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", last)[-_MAX_NAME:].lstrip(".-_")
    return name or "file"
