"""From typed options to settings; an error names the option that a person typed, its value, and what was expected."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound="BaseModel")


def settings_of(model: type[Model], typed: Mapping[str, Any], *, command: str, options: Mapping[str, str] | None = None) -> Model:
    """Return the settings of a command; an option that was not typed is None and left out.

    Args:
        model: Their model.
        typed: Values by setting, those of a group as a mapping.
        command: Name of the command, for its help.
        options: Option of each setting that is not called as its option, such as {"first": "--from"}, and of those in a group.

    Raises:
        SettingError: One of them cannot be.
    """
    from pydantic import ValidationError

    from storage.errors import SettingError

    try:
        return model(**without_none(typed))
    except ValidationError as error:
        own = {name: f"--{name.replace('_', '-')}" for name in model.model_fields}
        raise SettingError(first_error_text(error, command=command, options=own | dict(options or {}))) from None


def without_none(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without those that were not given, in groups too."""
    given = {name: without_none(value) if isinstance(value, dict) else value for name, value in settings.items()}
    return {name: value for name, value in given.items() if value is not None}


def first_error_text(error: ValidationError, *, command: str, options: Mapping[str, str]) -> str:
    """Return the first error of settings as one line.

    Where settings contradict each other, the message has the names of settings between backticks.
    """
    first = error.errors()[0]
    # For an element of a list the location ends with its index.
    field = next((str(part) for part in reversed(first["loc"]) if isinstance(part, str)), "")
    see = f"see `retrain {command} --help`"
    if not field and "`" in first["msg"]:
        text = first["msg"].removeprefix("Value error, ")
        return f"{re.sub(r'`([a-z_]+)`', lambda name: options.get(name[1], name[1]), text)}; {see}"
    return f"{options.get(field, field)} is {first['input']!r}: {first['msg']}; {see}"
